/** One argument of a call: what is expected of it, and what is said of one that is something else. */
import { refusal, RefusalError } from "../errors.ts";

export function refuse(operation: string, parameter: string, expected: string, value: unknown): never {
  const desc =
    value === undefined
      ? `Parameter '${parameter}' is missing, expected: ${expected}`
      : `Invalid parameter type for '${parameter}', expected: ${expected}`;
  throw new RefusalError(operation, refusal("ERR_INVALID_ARGUMENT", desc, { parameter, expected }));
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @throws RefusalError for what is no array */
export function checkList(operation: string, parameter: string, value: unknown): void {
  if (!Array.isArray(value)) refuse(operation, parameter, "array", value);
}
