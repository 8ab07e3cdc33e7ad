/**
 * The map of an artefact: `NAME.json` beside `NAME.raw`, which says what of the raw file is backup and what it builds on.
 *
 * Whoever reads a map reads what somebody else wrote: every field is checked before it is used, at the one place where
 * files become `Artefact`s. The raw file is found by the map's own name, never by something that the map says, so a map
 * cannot point anywhere else.
 *
 * Invariant of an `Artefact`: extents ascend, do not touch a byte twice, lie within `length`; and the raw file is `length`
 * bytes long. What a version of this code does not know of (other fields) it leaves alone; a version that means something
 * else by the same fields has another `version`.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { HeirloomError } from "./errors.ts";

export const artefactFormat = "heirloom-artefact";
export const artefactVersion = 1;

/** A map is text of some 60 bytes an extent; beyond this it is none that a backup has written. */
const mapBytesMax = 512 * 1024 * 1024;

export interface ArtefactExtent {
  /** Bytes of the disk, and of the raw file. */
  readonly offset: number;
  readonly length: number;
  /** `zero` reads as zeroes; the raw file has a hole there. */
  readonly kind: "data" | "zero";
}

/** What a map says, checked. */
export interface ArtefactMap {
  readonly id: string;
  /** Id of the backup that it builds on; null for a full one. */
  readonly basedOn: string | null;
  /** Bytes of the disk. */
  readonly length: number;
  readonly clusterSize: number;
  /** The point in time: when the disk was frozen, ISO 8601. */
  readonly time: string;
  readonly sync: string;
  readonly bitmap: string | null;
  /** Why this was copied, for people. */
  readonly why: string;
  /**
   * False for what a failed backup with bitmap-mode `always` left: no point in time, but the next backup of that bitmap
   * leaves out what is in here, so it builds on it.
   */
  readonly complete: boolean;
  readonly extents: readonly ArtefactExtent[];
}

/** An artefact on disk whose map was checked and whose raw file is there. */
export interface Artefact extends ArtefactMap {
  /** Of the map. */
  readonly path: string;
  readonly rawPath: string;
}

/** The paths of an artefact, by the path of its map. @throws HeirloomError if that does not end in .json */
export function rawPathOf(path: string): string {
  if (path.endsWith(".json")) return `${path.slice(0, -".json".length)}.raw`;
  throw new HeirloomError(
    "ERR_ARTEFACT_NAME",
    "read artefact",
    `expected the path of a map, which ends in .json, not '${path}'`,
  );
}

/**
 * Reads and checks an artefact.
 * @throws HeirloomError ERR_ARTEFACT_NAME, ERR_ARTEFACT_READ, ERR_ARTEFACT_FORMAT, ERR_ARTEFACT_VERSION,
 * ERR_ARTEFACT_EXTENTS, ERR_ARTEFACT_RAW; each says what was expected
 * @example
 * const { id, time, extents } = await readArtefact("/backups/monday.json");
 */
export async function readArtefact(path: string): Promise<Artefact> {
  const rawPath = rawPathOf(path);
  const map = checkMap(path, parse(path, await readMap(path)));
  const found = await rawLength(path, rawPath);
  if (found !== map.length) {
    fail(path, "ERR_ARTEFACT_RAW", `'${rawPath}' must be as long as the disk, ${map.length} bytes, but has ${found}`);
  }
  return { ...map, path, rawPath };
}

/** The text of a map. One extent a line, so that people can read it and diff it. */
export function formatMap(map: ArtefactMap): string {
  const { extents, ...head } = map;
  const fields = JSON.stringify({ format: artefactFormat, version: artefactVersion, ...head }, null, 2).slice(0, -2);
  const lines = extents.map((extent) => `    ${JSON.stringify(extent)}`);
  return `${fields},\n  "extents": [${lines.length === 0 ? "" : `\n${lines.join(",\n")}\n  `}]\n}\n`;
}

/** @throws HeirloomError */
export function checkMap(path: string, value: unknown): ArtefactMap {
  const read = new Fields(path, "the map", value);
  if (read.value("format") !== artefactFormat) read.wrong("format", `"${artefactFormat}"`);
  const version = read.integer("version", 1);
  if (version !== artefactVersion) {
    fail(
      path,
      "ERR_ARTEFACT_VERSION",
      `expected format version ${artefactVersion}, but the map has ${version}: it was written by a newer Heirloom`,
    );
  }
  const length = read.integer("length", 0);
  const clusterSize = read.integer("clusterSize", 1);
  if (!Number.isInteger(Math.log2(clusterSize))) read.wrong("clusterSize", "a power of two");
  const time = read.text("time");
  if (Number.isNaN(Date.parse(time))) read.wrong("time", "a time as ISO 8601");
  return {
    id: read.id("id"),
    basedOn: read.value("basedOn") === null ? null : read.id("basedOn"),
    length,
    clusterSize,
    time,
    sync: read.text("sync"),
    bitmap: read.value("bitmap") === null ? null : read.text("bitmap"),
    why: read.text("why"),
    complete: read.boolean("complete"),
    extents: checkExtents(path, length, read.value("extents")),
  };
}

function checkExtents(path: string, length: number, value: unknown): ArtefactExtent[] {
  if (!Array.isArray(value))
    return fail(path, "ERR_ARTEFACT_FORMAT", `'extents' of the map must be a list, not ${show(value)}`);
  let end = 0;
  return value.map((item: unknown, index) => {
    const read = new Fields(path, `extent ${index}`, item);
    const offset = read.integer("offset", 0);
    const bytes = read.integer("length", 1);
    const kind = read.value("kind");
    if (kind !== "data" && kind !== "zero") return read.wrong("kind", '"data" or "zero"');
    if (offset < end) {
      fail(
        path,
        "ERR_ARTEFACT_EXTENTS",
        `extent ${index} must begin at ${end} or later, where the one before it ends, not at ${offset}`,
      );
    }
    end = offset + bytes;
    if (end > length) {
      fail(path, "ERR_ARTEFACT_EXTENTS", `extent ${index} must end within the disk's ${length} bytes, not at ${end}`);
    }
    return { offset, length: bytes, kind };
  });
}

async function readMap(path: string): Promise<string> {
  try {
    await using file = await openPlain(path);
    const { size } = await file.stat();
    // Looked at before it is read: a map of many gigabytes would end the process.
    if (size > mapBytesMax)
      fail(path, "ERR_ARTEFACT_FORMAT", `expected a map of at most ${mapBytesMax} bytes, not ${size}`);
    return await file.readFile("utf8");
  } catch (error) {
    if (error instanceof HeirloomError) throw error;
    return fail(path, "ERR_ARTEFACT_READ", `expected a readable map (${(error as Error).message})`, error);
  }
}

/** O_NONBLOCK: a FIFO of that name must not hold the open for ever. */
function openPlain(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_NONBLOCK);
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return fail(path, "ERR_ARTEFACT_FORMAT", `expected JSON (${(error as Error).message})`, error);
  }
}

async function rawLength(path: string, rawPath: string): Promise<number> {
  try {
    await using file = await openPlain(rawPath);
    const found = await file.stat();
    if (found.isFile()) return found.size;
  } catch (error) {
    return fail(path, "ERR_ARTEFACT_RAW", `expected its data in '${rawPath}' (${(error as Error).message})`, error);
  }
  return fail(path, "ERR_ARTEFACT_RAW", `expected its data in '${rawPath}', which is not a regular file`);
}

function fail(path: string, code: string, desc: string, cause?: unknown): never {
  throw new HeirloomError(code, `artefact '${path}'`, desc, {
    fields: { path },
    ...(cause === undefined ? {} : { cause }),
  });
}

const uuid = /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/;

/** Fields of an object that came from outside, each of its type or an error that says what was expected. */
class Fields {
  readonly #path: string;
  readonly #of: string;
  readonly #object: Readonly<Record<string, unknown>>;

  constructor(path: string, of: string, value: unknown) {
    this.#path = path;
    this.#of = of;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      fail(path, "ERR_ARTEFACT_FORMAT", `${of} must be an object, not ${show(value)}`);
    }
    this.#object = value as Record<string, unknown>;
  }

  value(name: string): unknown {
    return Object.hasOwn(this.#object, name) ? this.#object[name] : undefined;
  }

  wrong(name: string, expected: string): never {
    return fail(
      this.#path,
      "ERR_ARTEFACT_FORMAT",
      `'${name}' of ${this.#of} must be ${expected}, not ${show(this.value(name))}`,
    );
  }

  integer(name: string, min: number): number {
    const value = this.value(name);
    return Number.isSafeInteger(value) && (value as number) >= min
      ? (value as number)
      : this.wrong(name, `an integer of at least ${min}`);
  }
  text(name: string): string {
    const value = this.value(name);
    return typeof value === "string" ? value : this.wrong(name, "a string");
  }
  boolean(name: string): boolean {
    const value = this.value(name);
    return typeof value === "boolean" ? value : this.wrong(name, "true or false");
  }
  id(name: string): string {
    const value = this.text(name);
    return uuid.test(value) ? value : this.wrong(name, "a UUID");
  }
}

function show(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
