/**
 * Values against types: JSON of a command, or the words of a command line, to plain objects, or the fault in QEMU's words.
 *
 * In QEMU's order, so that of several faults the same one is told: the members that a type knows in the order in which it
 * lists them, a union's own before its variant's, and after them what is left over. Nothing has happened when this throws.
 */
import { QmpError } from "../qmp-error.ts";
import { dictOrder } from "../wire/dict-order.ts";
import { JsonDouble, type JsonObject, type JsonValue } from "../wire/json-value.ts";
import { readSize } from "./read-size.ts";
import type { Alternate, Builtin, Members, Struct, Type, Union } from "./type.ts";

/** `json`: types as JSON has them. `words`: every leaf is text, as on a command line. */
export type Notation = "json" | "words";

/** @throws QmpError */
export function readArguments(
  type: Struct | Union,
  given: JsonObject,
  notation: Notation = "json",
): Record<string, unknown> {
  return new Reading(notation).object(type, given, new Path(undefined, ""));
}

/** One value by itself, as `qom-set` has it. @param name what messages call it @throws QmpError */
export function readValue(type: Type, value: JsonValue, name: string): unknown {
  return new Reading("json").value(type, value, new Path(undefined, name));
}

/** Where a value stands: `actions[0].data.name` in most messages, the last name alone in some. */
class Path {
  readonly #parent: Path | undefined;
  readonly #step: string;

  constructor(parent: Path | undefined, step: string) {
    this.#parent = parent;
    this.#step = step;
  }
  member(name: string): Path {
    return new Path(this, name);
  }
  element(index: number): Path {
    return new Path(this, `[${index}]`);
  }
  /** QEMU has no name for an element of a list. */
  get last(): string {
    return this.#step.startsWith("[") || this.#step === "" ? "null" : this.#step;
  }
  toString(): string {
    const before = this.#parent?.toString() ?? "";
    return before === "" || this.#step.startsWith("[") ? before + this.#step : `${before}.${this.#step}`;
  }
}

const int64Min = -(2n ** 63n);
const int64Max = 2n ** 63n - 1n;

class Reading {
  readonly #words: boolean;

  constructor(notation: Notation) {
    this.#words = notation === "words";
  }

  value(type: Type, value: JsonValue, path: Path): unknown {
    switch (type.kind) {
      case "builtin":
        return this.#builtin(type, value, path);
      case "enum":
        if (typeof value !== "string") throw wrongType(path, "string");
        if (!type.values.includes(value)) {
          throw new QmpError(`Parameter '${path.last}' does not accept value '${value}'`);
        }
        return value;
      case "list":
        if (!Array.isArray(value)) throw wrongType(path, "array");
        return value.map((element, index) => this.value(type.of, element, path.element(index)));
      case "alternate":
        return this.#alternate(type, value, path);
      default:
        if (!(value instanceof Map)) throw wrongType(path, "object");
        return this.object(type, value, path);
    }
  }

  object(type: Struct | Union, given: JsonObject, path: Path): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const taken = new Set<string>();
    this.#members(type.members, given, path, result, taken);
    if (type.kind === "union") {
      const variant = type.variants[result[type.tag] as string];
      if (variant !== undefined) this.#members(variant().members, given, path, result, taken);
    }
    for (const name of dictOrder(given.keys())) {
      if (!taken.has(name)) throw new QmpError(`Parameter '${path.member(name).toString()}' is unexpected`);
    }
    return result;
  }

  #members(members: Members, given: JsonObject, path: Path, result: Record<string, unknown>, taken: Set<string>): void {
    for (const [name, member] of Object.entries(members)) {
      const value = given.get(name);
      taken.add(name);
      const at = path.member(name);
      if (value !== undefined) result[name] = this.value(member.type(), value, at);
      else if (!member.optional) throw new QmpError(`Parameter '${at.toString()}' is missing`);
    }
  }

  #alternate(type: Alternate, value: JsonValue, path: Path): unknown {
    for (const branch of type.branches) {
      const one = branch();
      if (accepts(one, value)) return this.value(one, value, path);
    }
    throw wrongType(path, type.name, path.last);
  }

  #builtin(type: Builtin, value: JsonValue, path: Path): unknown {
    switch (type.name) {
      case "str":
        if (typeof value !== "string") throw wrongType(path, "string");
        return value;
      case "bool":
        return this.#bool(value, path);
      case "any":
        return value;
      case "null":
        if (value !== null) throw wrongType(path, "null");
        return null;
      case "number":
        return this.#number(value, path);
      case "int":
        return Number(this.#int(value, path));
      case "size":
        if (this.#words) return readSize(value, path.toString());
        return Number(this.#uint64(value, path));
      case "uint64":
        return Number(this.#uint64(value, path));
      case "uint32": {
        const wide = this.#uint64(value, path);
        if (wide > 0xffffffffn) throw new QmpError(`Parameter '${path.last}' expects uint32_t`);
        return Number(wide);
      }
    }
  }

  #bool(value: JsonValue, path: Path): boolean {
    if (!this.#words) {
      if (typeof value !== "boolean") throw wrongType(path, "boolean");
      return value;
    }
    if (typeof value !== "string") throw wrongType(path, "string");
    if (["on", "yes", "true", "y"].includes(value)) return true;
    if (["off", "no", "false", "n"].includes(value)) return false;
    throw new QmpError(`Parameter '${path.toString()}' expects 'on' or 'off'`);
  }

  #number(value: JsonValue, path: Path): number {
    const read = this.#words && typeof value === "string" && value.trim() !== "" ? Number(value) : value;
    if (read instanceof JsonDouble) return read.value;
    if ((typeof read === "number" && !Number.isNaN(read)) || typeof read === "bigint") return Number(read);
    throw this.#words ? new QmpError(`Parameter '${path.toString()}' expects number`) : wrongType(path, "number");
  }

  #int(value: JsonValue, path: Path): bigint {
    const read = this.#words ? wordToInteger(value) : jsonToInteger(value);
    if (read !== undefined && read >= int64Min && read <= int64Max) return read;
    throw this.#words ? new QmpError(`Parameter '${path.toString()}' expects integer`) : wrongType(path, "integer");
  }

  /** A negative one counts from the top, as in C. */
  #uint64(value: JsonValue, path: Path): bigint {
    const read = this.#words ? wordToInteger(value) : jsonToInteger(value);
    if (read === undefined || read < int64Min || read >= 2n ** 64n) {
      throw new QmpError(`Parameter '${path.toString()}' expects ${this.#words ? "integer" : "uint64"}`);
    }
    return BigInt.asUintN(64, read);
  }
}

function jsonToInteger(value: JsonValue): bigint | undefined {
  return typeof value === "number" || typeof value === "bigint" ? BigInt(value) : undefined;
}
/** Decimal, or hexadecimal or octal as C has them. */
function wordToInteger(value: JsonValue): bigint | undefined {
  if (typeof value !== "string") return undefined;
  const match = /^\s*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)$/.exec(value);
  if (match === null) return undefined;
  const [, sign, digits] = match;
  const octal = /^0[0-7]+$/.test(digits);
  const magnitude = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  return sign === "-" ? -magnitude : magnitude;
}

function accepts(type: Type, value: JsonValue): boolean {
  switch (type.kind) {
    case "struct":
    case "union":
      return value instanceof Map;
    case "list":
      return Array.isArray(value);
    case "builtin":
      return type.name === "null"
        ? value === null
        : type.name === "bool"
          ? typeof value === "boolean"
          : typeof value === "string";
    default:
      return typeof value === "string";
  }
}

function wrongType(path: Path, expected: string, name: string = path.toString()): QmpError {
  return new QmpError(`Invalid parameter type for '${name === "" ? "null" : name}', expected: ${expected}`);
}
