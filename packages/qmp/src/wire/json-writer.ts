/** Values to bytes as QEMU writes them: ASCII, `\uXXXX` in capitals, `", "` and `": "` between, `%.17g` for doubles. */
import { dictOrder } from "./dict-order.ts";
import { JsonDouble, type Writable } from "./json-value.ts";

const shortEscapes: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ["\\", "\\\\"],
  ["\b", "\\b"],
  ["\f", "\\f"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

/** @param pretty members and elements on lines of their own, as a monitor with `pretty=on` has it */
export function writeJson(value: Writable, pretty: boolean = false): string {
  return write(value, pretty ? 0 : -1);
}

/** @param depth of indentation; negative: all on one line */
function write(value: Writable, depth: number): string {
  if (value === null || typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (typeof value === "number") return Number.isSafeInteger(value) ? String(value) : formatDouble(value);
  if (typeof value === "string") return writeString(value);
  if (value instanceof JsonDouble) return formatDouble(value.value);
  if (Array.isArray(value)) return writeList(value as readonly Writable[], depth);
  return writeObject(value as ReadonlyMap<string, Writable> | Readonly<Record<string, Writable | undefined>>, depth);
}

function writeList(list: readonly Writable[], depth: number): string {
  return enclose(
    "[",
    list.map((element) => write(element, inner(depth))),
    "]",
    depth,
  );
}

function writeObject(
  object: ReadonlyMap<string, Writable> | Readonly<Record<string, Writable | undefined>>,
  depth: number,
): string {
  const members =
    object instanceof Map
      ? (object as ReadonlyMap<string, Writable>)
      : new Map(
          Object.entries(object as Record<string, Writable | undefined>).filter(([, value]) => value !== undefined),
        );
  const texts = dictOrder(members.keys()).map(
    (name) => `${writeString(name)}: ${write(members.get(name) as Writable, inner(depth))}`,
  );
  return enclose("{", texts, "}", depth);
}

function inner(depth: number): number {
  return depth < 0 ? depth : depth + 1;
}

function enclose(open: string, texts: readonly string[], close: string, depth: number): string {
  if (depth < 0) return `${open}${texts.join(", ")}${close}`;
  const margin = `\n${"    ".repeat(depth + 1)}`;
  const lines = texts.length === 0 ? "" : `${margin}${texts.join(`,${margin}`)}`;
  return `${open}${lines}\n${"    ".repeat(depth)}${close}`;
}

export function writeString(text: string): string {
  // A lone surrogate, which a JavaScript string can hold, is no character.
  const escaped = text.replace(/\p{Surrogate}/gu, "\uFFFD").replace(/[^ !#-[\]-~]/g, escape);
  return `"${escaped}"`;
}

function escape(unit: string): string {
  return shortEscapes.get(unit) ?? `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** C's `%.17g`: 17 digits that matter, without zeroes at the end; an exponent of at least two digits below 1e-4 and from 1e17 on. */
export function formatDouble(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return Object.is(value, -0) ? "-0" : "0";
  const [mantissa, exponentText] = value.toExponential(16).split("e");
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= 17) {
    const digits = Math.abs(exponent).toString().padStart(2, "0");
    return `${trimZeroes(mantissa)}e${exponent < 0 ? "-" : "+"}${digits}`;
  }
  return trimZeroes(value.toFixed(Math.max(0, 16 - exponent)));
}

function trimZeroes(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
