/**
 * What options a driver takes, declared once as a table, and the one function that checks a specification against it.
 *
 * A driver sees only what passed: every option of its type and in its range, defaults filled in, nothing unknown. What
 * depends on two options at once is the driver's own check (`optionError` says it in the same words).
 */
import { BlockError } from "./block-error.ts";
import { errnoNumber } from "./errno.ts";

interface RuleBase {
  /** One sentence for people; the README's table is made of these. */
  readonly doc: string;
  readonly required?: true;
}

export type OptionRule = RuleBase &
  (
    | { readonly type: "string"; readonly default?: string }
    | { readonly type: "boolean"; readonly default?: boolean }
    /** A safe integer, 0 or more unless `min` says otherwise. */
    | { readonly type: "integer"; readonly min?: number; readonly max?: number; readonly default?: number }
    | { readonly type: "choice"; readonly values: readonly string[]; readonly default?: string }
    /** The name of an errno, or its number. */
    | { readonly type: "errno" }
    /** Another node's specification. */
    | { readonly type: "node" }
    /** Shared memory that somebody made for it. */
    | { readonly type: "memory" }
    | { readonly type: "object"; readonly fields: OptionTable }
    | { readonly type: "list"; readonly fields: OptionTable }
  );

export type OptionTable = Readonly<Record<string, OptionRule>>;

/** The error for an option that is wrong; `expected` is a noun phrase, as in "a string". */
export function optionError(driver: string, option: string, expected: string, value: unknown): BlockError {
  const message = `open ${driver}: option '${option}' must be ${expected}, not ${show(value)}`;
  return new BlockError("ERR_NODE_OPTION", message, { node: driver });
}

/**
 * Checks `options` and fills in defaults. An option given as `undefined` is one not given.
 *
 * @throws BlockError ERR_NODE_OPTION that names the option and says what was expected.
 */
export function readOptions(
  driver: string,
  table: OptionTable,
  options: Readonly<Record<string, unknown>>,
  path = "",
): Record<string, unknown> {
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(table, name) || options[name] === undefined) continue;
    const known = Object.keys(table).join(", ");
    const message = `open ${driver}: unknown option '${path}${name}'; expected ${known === "" ? "none" : known}`;
    throw new BlockError("ERR_NODE_OPTION", message, { node: driver });
  }
  const read: Record<string, unknown> = {};
  for (const name of Object.keys(table)) {
    const rule = table[name];
    const value = options[name];
    if (value !== undefined) {
      read[name] = readValue(driver, path + name, rule, value);
    } else if (rule.required === true) {
      const message = `open ${driver}: option '${path}${name}' is missing; expected ${expectation(rule)} (${rule.doc})`;
      throw new BlockError("ERR_NODE_OPTION", message, { node: driver });
    } else if ("default" in rule && rule.default !== undefined) {
      read[name] = rule.default;
    }
  }
  return read;
}

function readValue(driver: string, name: string, rule: OptionRule, value: unknown): unknown {
  const wrong = (): BlockError => optionError(driver, name, expectation(rule), value);
  switch (rule.type) {
    case "string":
      if (typeof value !== "string" || value === "" || value.includes("\0")) throw wrong();
      return value;
    case "boolean":
      if (typeof value !== "boolean") throw wrong();
      return value;
    case "integer":
      if (!Number.isSafeInteger(value)) throw wrong();
      if ((value as number) < (rule.min ?? 0) || (value as number) > (rule.max ?? Number.MAX_SAFE_INTEGER))
        throw wrong();
      return value;
    case "choice":
      if (!rule.values.includes(value as string)) throw wrong();
      return value;
    case "errno": {
      const errno = typeof value === "string" ? errnoNumber(value) : value;
      if (!Number.isSafeInteger(errno) || (errno as number) < 1 || (errno as number) > 4095) throw wrong();
      return errno;
    }
    case "node":
      if (!isRecord(value) || typeof value.driver !== "string") throw wrong();
      return value;
    case "memory":
      if (!(value instanceof SharedArrayBuffer)) throw wrong();
      return value;
    case "object":
      if (!isRecord(value)) throw wrong();
      return readOptions(driver, rule.fields, value, `${name}.`);
    case "list":
      if (!Array.isArray(value)) throw wrong();
      return value.map((item: unknown, index) => {
        if (!isRecord(item)) throw optionError(driver, `${name}[${index}]`, "an object", item);
        return readOptions(driver, rule.fields, item, `${name}[${index}].`);
      });
  }
}

/** What a rule expects, as a noun phrase. */
export function expectation(rule: OptionRule): string {
  switch (rule.type) {
    case "string":
      return "a string that is not empty";
    case "boolean":
      return "true or false";
    case "integer":
      return rule.max === undefined
        ? `an integer of at least ${rule.min ?? 0}`
        : `an integer from ${rule.min ?? 0} to ${rule.max}`;
    case "choice":
      return `one of ${rule.values.map((value) => `'${value}'`).join(", ")}`;
    case "errno":
      return "the name of an errno (like 'EIO') or its number";
    case "node":
      return "a node's specification (an object with a 'driver')";
    case "memory":
      return "shared memory";
    case "object":
      return `an object of ${Object.keys(rule.fields).join(", ")}`;
    case "list":
      return `a list of objects of ${Object.keys(rule.fields).join(", ")}`;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  if (typeof value === "string") return `'${value}'`;
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  return String(value);
}
