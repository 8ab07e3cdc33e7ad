/** A size on a command line: a number with an optional fraction and a suffix (`64k`, `1.5G`), each step 1024. */
import { QmpError } from "../qmp-error.ts";
import type { JsonValue } from "../wire/json-value.ts";

const suffixes = "bkmgtpe";

/** Bytes. @throws QmpError */
export function readSize(value: JsonValue, name: string): number {
  const match = typeof value === "string" ? /^\s*(\d+(?:\.\d+)?|0x[0-9a-f]+)([bkmgtpe]?)$/i.exec(value) : null;
  if (match === null) throw new QmpError(`Parameter '${name}' expects size`);
  const step = match[2] === "" ? 0 : suffixes.indexOf(match[2].toLowerCase());
  const bytes = Math.floor(Number(match[1]) * 1024 ** step);
  if (bytes >= 2 ** 64) throw new QmpError(`Parameter '${name}' expects size`);
  return bytes;
}
