/**
 * QEMU's way to write structured options on a command line: `a.b=v,list.0=x,list.1=y`, a comma in a value doubled, the
 * first key left out where an option has one that goes without saying. Text that begins with `{` is JSON instead.
 */
import { type JsonObject, JsonReader, type JsonValue, QmpError } from "@heirloom/qmp";

/** Of the words of a command line, every leaf is text; of JSON, types are what they are. */
export interface ReadOption {
  readonly value: JsonObject;
  readonly notation: "words" | "json";
}

/** @param impliedKey of a first part without `=` @throws QmpError */
export function readOption(text: string, impliedKey?: string): ReadOption {
  if (text.startsWith("{")) return { value: readJson(text), notation: "json" };
  return { value: readKeyval(text, impliedKey), notation: "words" };
}

function readJson(text: string): JsonObject {
  const reader = new JsonReader();
  // A line's end, so that a number at the end is complete.
  const items = reader.feed(Buffer.from(`${text}\n`));
  const [first, second] = items;
  if (first === undefined) throw new QmpError("JSON parse error, premature EOI");
  if ("error" in first) throw new QmpError(first.error);
  if (second !== undefined || !reader.isIdle) throw new QmpError("Expecting at most one JSON value");
  if (!(first.value instanceof Map)) throw new QmpError("Invalid parameter type for 'null', expected: object");
  return first.value;
}

type Tree = Map<string, Tree | string>;

/** @throws QmpError */
export function readKeyval(text: string, impliedKey?: string): JsonObject {
  const tree: Tree = new Map();
  let rest = text;
  for (let first = true; rest !== ""; first = false) {
    const [part, after] = takePart(rest);
    rest = after;
    const equals = part.indexOf("=");
    if (equals < 0) {
      if (!first || impliedKey === undefined) throw new QmpError(`Expected '=' after parameter '${part}'`);
      put(tree, impliedKey, unescape(part));
    } else {
      put(tree, part.slice(0, equals), unescape(part.slice(equals + 1)));
    }
  }
  return listify(tree, "") as JsonObject;
}

/** Up to the first comma that is not doubled. */
function takePart(text: string): [part: string, rest: string] {
  for (let at = text.indexOf(","); at >= 0; at = text.indexOf(",", at + 2)) {
    if (text[at + 1] !== ",") return [text.slice(0, at), text.slice(at + 1)];
  }
  return [text, ""];
}

function unescape(value: string): string {
  return value.replaceAll(",,", ",");
}

function put(tree: Tree, key: string, value: string): void {
  const steps = key.split(".");
  // A name, or a number in a list; the first is a name.
  const valid = steps.every(
    (step, index) => (index > 0 && /^\d{1,9}$/.test(step)) || /^[A-Za-z_][A-Za-z0-9_-]*$/.test(step),
  );
  if (!valid) throw new QmpError(`Invalid parameter '${key}'`);
  let inside = tree;
  steps.forEach((step, index) => {
    const path = steps.slice(0, index + 1).join(".");
    const present = inside.get(step);
    if (index === steps.length - 1) {
      if (present instanceof Map) throw inconsistent(path);
      inside.set(step, value); // the last one holds
      return;
    }
    if (typeof present === "string") throw inconsistent(path);
    const next = present ?? new Map<string, Tree | string>();
    inside.set(step, next);
    inside = next;
  });
}

function inconsistent(path: string): QmpError {
  return new QmpError(`Parameters '${path}.*' used inconsistently`);
}

/** Objects with numbers for keys are lists. */
function listify(tree: Tree, path: string): JsonValue {
  const members: JsonObject = new Map();
  let numbers = 0;
  for (const [key, value] of tree) {
    const at = path === "" ? key : `${path}.${key}`;
    members.set(key, typeof value === "string" ? value : listify(value, at));
    if (/^\d+$/.test(key)) numbers++;
  }
  if (numbers === 0) return members;
  if (numbers < members.size) throw inconsistent(path);
  return Array.from({ length: numbers }, (_, index) => {
    const element = members.get(String(index));
    if (element === undefined) throw new QmpError(`Parameter '${path}.${index}' missing`);
    return element;
  });
}

/** An error's text, whatever threw it. */
export function textOf(error: unknown): string {
  if (error instanceof QmpError) return error.desc;
  return error instanceof Error ? error.message : String(error);
}
