/**
 * Text as QEMU takes it: UTF-8 without surrogates and without the code points that Unicode sets aside, with NUL as the two
 * bytes C0 80 or as an escape. `\/` and `\'` are escapes too.
 */
import { JsonSyntaxError } from "./json-syntax-error.ts";

const backslash = 0x5c;

const simpleEscapes: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ["'", "'"],
  ["\\", "\\"],
  ["/", "/"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
]);

/** The value of a string token, quotes included. @throws JsonSyntaxError */
export function readString(token: Uint8Array): string {
  const text = token.includes(backslash) ? undefined : decodeText(token.subarray(1, -1));
  return text ?? unescape(token);
}

/** From the first byte to the last, so that of several faults the first is told. */
function unescape(token: Uint8Array): string {
  let value = "";
  for (let index = 1; index < token.length - 1;) {
    if (token[index] !== backslash) {
      const escape = token.indexOf(backslash, index);
      const end = escape < 0 ? token.length - 1 : escape;
      const plain = token.subarray(index, end);
      value += decodeText(plain) ?? walk(plain);
      index = end;
      continue;
    }
    const letter = String.fromCharCode(token[index + 1]);
    const simple = simpleEscapes.get(letter);
    if (simple !== undefined) {
      value += simple;
      index += 2;
    } else if (letter === "u") {
      const { point, length } = readUnicode(token, index);
      value += String.fromCodePoint(point);
      index += length;
    } else {
      throw new JsonSyntaxError("invalid escape sequence in string");
    }
  }
  return value;
}

/** A NUL written as C0 80 is taken. */
function walk(bytes: Uint8Array): string {
  let value = "";
  for (let index = 0; index < bytes.length;) {
    const point = decodeOne(bytes, index);
    if (point.value < 0) throw new JsonSyntaxError("invalid UTF-8 sequence in string");
    value += String.fromCodePoint(point.value);
    index += point.length;
  }
  return value;
}

function readUnicode(token: Uint8Array, at: number): { point: number; length: number } {
  const high = hex(token, at + 2);
  let point = high;
  let length = 6;
  if (high >= 0xd800 && high <= 0xdbff && token[at + 6] === backslash && token[at + 7] === 0x75) {
    const low = hex(token, at + 8);
    if (low >= 0xdc00 && low <= 0xdfff) {
      point = 0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff);
      length = 12;
    }
  }
  if (isScalar(point)) return { point, length };
  const shown = Buffer.from(token.subarray(at, Math.min(at + length, token.length))).toString("latin1");
  throw new JsonSyntaxError(`${shown} is not a valid Unicode character`);
}

/** Four hexadecimal digits; -1 where they are not that. */
function hex(token: Uint8Array, at: number): number {
  let value = 0;
  for (let index = at; index < at + 4; index++) {
    const byte = token[index];
    const letter = byte | 0x20;
    if (byte >= 0x30 && byte <= 0x39) value = value * 16 + byte - 0x30;
    else if (letter >= 0x61 && letter <= 0x66) value = value * 16 + letter - 0x61 + 10;
    else return -1; // also past the end, where there is no byte
  }
  return value;
}

/** No surrogate, and none of those that Unicode says are never characters. */
function isScalar(point: number): boolean {
  if (point < 0 || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
  return !(point >= 0xfdd0 && point <= 0xfdef) && (point & 0xfffe) !== 0xfffe;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Undefined where it is no text that the platform's decoder and Unicode both take. */
function decodeText(bytes: Uint8Array): string | undefined {
  try {
    const text = strict.decode(bytes);
    return /\p{Noncharacter_Code_Point}/u.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** One code point from `at`, or -1 and the bytes to go on after. */
export function decodeOne(bytes: Uint8Array, at: number): { value: number; length: number } {
  const first = bytes[at];
  if (first < 0x80) return { value: first, length: 1 };
  if (first >= 0xfe || first < 0xc0) return { value: -1, length: 1 };
  // The number of ones at the top: bytes in all. Five and six were UTF-8 once, and are read as one fault.
  const count = Math.clz32(~(first << 24));
  let value = first & (0x7f >> count);
  let length = 1;
  while (length < count) {
    const byte = bytes[at + length];
    if (byte === undefined || (byte & 0xc0) !== 0x80) return { value: -1, length };
    value = value * 64 + (byte & 0x3f);
    length++;
  }
  const least = count === 2 ? 0x80 : count === 3 ? 0x800 : count === 4 ? 0x10000 : Infinity;
  const nul = count === 2 && value === 0;
  return isScalar(value) && (value >= least || nul) ? { value, length } : { value: -1, length };
}

/** For messages: what is no text is shown as U+FFFD, and nothing after a NUL is shown. */
export function showBytes(bytes: Uint8Array): string {
  let text = "";
  for (let index = 0; index < bytes.length && bytes[index] !== 0;) {
    const { value, length } = decodeOne(bytes, index);
    text += value < 0 ? "\uFFFD" : String.fromCodePoint(value);
    index += length;
  }
  return text;
}
