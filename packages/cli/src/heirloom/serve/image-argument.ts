/**
 * `IMAGE[=NAME]`: what is served, and the name that clients ask for. By default that is the file's own name, as in nbdkit's
 * file plugin with a directory.
 *
 * A path may hold an equals sign. One that exists as a whole is a path; where the part before its last equals sign exists
 * as well nobody can tell which is meant, and it is refused rather than guessed: one is the wrong disk.
 *
 * `json:{"driver":...}` is a node as `@heirloom/block` has them (memory, null-co, throttle, a driver module), in the form that
 * QEMU's tools take.
 */
import { existsSync, statSync } from "node:fs";
import { basename } from "node:path";
import type { NodeSpec } from "@heirloom/block";
import { UsageError } from "../command-error.ts";
import { quoted } from "../shell-words.ts";

export interface ImageArgument {
  /** Of a node without a file, its driver's name. */
  readonly path: string;
  /** Where it was given as JSON. */
  readonly spec?: NodeSpec;
  /** Of the export; "" is a name as well. */
  readonly name: string;
}

export function parseImage(text: string): ImageArgument {
  if (text === "") throw new UsageError("expected the path of an image, and it is empty");
  if (text.startsWith("json:")) return parseNode(text);
  const equals = text.lastIndexOf("=");
  if (equals <= 0) return { path: text, name: basename(text) };
  const named = { path: text.slice(0, equals), name: text.slice(equals + 1) };
  if (!existsSync(text)) return named;
  if (!existsSync(named.path)) return { path: text, name: basename(text) };
  throw new UsageError(
    `'${text}' and '${named.path}' both exist, so it is not clear which one is meant`,
    `The first one: ${quoted(`${text}=${basename(text)}`)}. The second: --name ${quoted(named.name)} ${quoted(named.path)}`,
  );
}

function parseNode(text: string): ImageArgument {
  const [, json = "", name] = /^json:(\{.*\})(?:=([^}]*))?$/s.exec(text) ?? [];
  let spec: unknown;
  try {
    spec = JSON.parse(json);
  } catch {
    // told below, with what was expected
  }
  if (!isNodeSpec(spec)) {
    const example = `json:{"driver":"memory","size":1073741824}=NAME`;
    throw new UsageError(`'${text}' is no description of a node; expected JSON, as in ${quoted(example)}`);
  }
  const path = typeof spec.filename === "string" ? spec.filename : spec.driver;
  return { path, name: name ?? basename(path), spec };
}

function isNodeSpec(value: unknown): value is NodeSpec {
  return typeof value === "object" && value !== null && "driver" in value && typeof value.driver === "string";
}

/** With `--name` all of it is the path. */
function withoutName(text: string): Pick<ImageArgument, "path" | "spec"> {
  return text.startsWith("json:") ? parseNode(text) : { path: text };
}

/** All of them, with `--name` for a single one. @throws UsageError where two are the same or have one name */
export function parseImages(texts: readonly string[], name: string | undefined): readonly ImageArgument[] {
  if (name !== undefined && texts.length > 1) {
    throw new UsageError("--name is for a single image", "With several, name each: IMAGE=NAME IMAGE=NAME");
  }
  const images = name === undefined ? texts.map(parseImage) : [{ ...withoutName(texts[0]), name }];
  const byName = new Map<string, string>();
  const byFile = new Map<string, string>();
  for (const image of images) {
    const twin = byName.get(image.name);
    if (twin !== undefined) {
      throw new UsageError(
        `'${twin}' and '${image.path}' would both be exported as '${image.name}'`,
        `Name one of them: ${quoted(`${image.path}=ANOTHER-NAME`)}`,
      );
    }
    byName.set(image.name, image.path);
    const file = image.spec === undefined ? identity(image.path) : undefined;
    const same = file === undefined ? undefined : byFile.get(file);
    if (same !== undefined) throw new UsageError(`'${same}' and '${image.path}' are the same image; give it once`);
    if (file !== undefined) byFile.set(file, image.path);
  }
  return images;
}

function identity(path: string): string | undefined {
  const status = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (status === undefined) return undefined;
  return status.isBlockDevice() ? `device ${status.rdev}` : `file ${status.dev} ${status.ino}`;
}
