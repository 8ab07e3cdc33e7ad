/**
 * The shapes of what a program hands to the embedding API. Types say it to those who compile; this says it to the others, before
 * anything is opened, in a sentence and not in a thread's stack.
 */
import type { NodeSpec } from "@heirloom/block";
import { Disk } from "../disk.ts";
import { refusal, RefusalError } from "../errors.ts";

function refuse(operation: string, parameter: string, expected: string, value: unknown): never {
  const desc =
    value === undefined
      ? `Parameter '${parameter}' is missing, expected: ${expected}`
      : `Invalid parameter type for '${parameter}', expected: ${expected}`;
  throw new RefusalError(operation, refusal("ERR_INVALID_ARGUMENT", desc, { parameter, expected }));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function checkObject(operation: string, parameter: string, value: unknown): void {
  if (!isObject(value)) refuse(operation, parameter, "object", value);
}

/** @throws RefusalError for what is no array */
export function checkList(operation: string, parameter: string, value: unknown): void {
  if (!Array.isArray(value)) refuse(operation, parameter, "array", value);
}

function checkDisk(operation: string, parameter: string, value: unknown): void {
  if (!(value instanceof Disk) && typeof value !== "string") refuse(operation, parameter, "a disk, or its name", value);
}

/**
 * A node's description: an object with the name of its driver, the nodes under it in it, and otherwise values that a thread can be
 * sent.
 * @throws RefusalError
 */
export function checkNodeSpec(operation: string, parameter: string, value: unknown): asserts value is NodeSpec {
  const shape = "object with 'driver', as { driver: 'file', filename: 'vm.img' }";
  if (!isObject(value) || value instanceof Disk) refuse(operation, parameter, shape, value);
  if (typeof value.driver !== "string") refuse(operation, `${parameter}.driver`, "string", value.driver);
  for (const [option, one] of Object.entries(value)) {
    const name = `${parameter}.${option}`;
    if (typeof one === "function" || typeof one === "symbol") refuse(operation, name, "a value", one);
    if (option === "file" && isObject(one) && !(one instanceof Disk)) checkNodeSpec(operation, name, one);
  }
}

/** @throws RefusalError for what is no list of actions of these kinds */
export function checkActions(operation: string, actions: unknown, kinds: readonly string[]): void {
  checkList(operation, "actions", actions);
  for (const [index, action] of (actions as unknown[]).entries()) {
    checkObject(operation, `actions[${index}]`, action);
    const { type, disk } = action as { type?: unknown; disk?: unknown };
    if (typeof type !== "string" || !kinds.includes(type))
      refuse(operation, `actions[${index}].type`, `one of ${kinds.join(", ")}`, type);
    if (type !== "abort") checkDisk(type === "backup" ? "backup" : operation, "disk", disk);
  }
}
