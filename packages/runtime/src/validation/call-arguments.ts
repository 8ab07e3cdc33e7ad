/**
 * The shapes of what a program hands to the embedding API. Types say it to those who compile; this says it to the others, before
 * anything is opened, in a sentence and not in a thread's stack.
 */
import type { NodeSpec } from "@heirloom/block";
import { Disk } from "../disk.ts";
import { checkList, isObject, refuse } from "./argument.ts";
import { checkMergeSources } from "./merge-sources.ts";

function checkObject(operation: string, parameter: string, value: unknown): void {
  if (!isObject(value)) refuse(operation, parameter, "object", value);
}

/** @throws RefusalError */
export function checkFunction(operation: string, parameter: string, value: unknown): void {
  if (typeof value !== "function") refuse(operation, parameter, "function", value);
}

/** @throws RefusalError for what cannot be used as an AbortSignal; by its members, since some libraries bring their own */
export function checkSignal(operation: string, signal: unknown): void {
  if (signal === undefined) return;
  const { aborted, addEventListener, throwIfAborted } = isObject(signal) ? signal : {};
  if (typeof aborted === "boolean" && typeof addEventListener === "function" && typeof throwIfAborted === "function")
    return;
  refuse(operation, "signal", "AbortSignal", signal);
}

function checkDisk(operation: string, parameter: string, value: unknown): void {
  if (!(value instanceof Disk) && typeof value !== "string") refuse(operation, parameter, "a disk, or its name", value);
}

/** Nodes that stand on each other, at most: a specification that has itself as its `file` has no end. */
const nodesMax = 100;

/**
 * A node's description: an object with the name of its driver, the nodes under it in it, and otherwise values that a thread can be
 * sent.
 * @throws RefusalError
 */
export function checkNodeSpec(
  operation: string,
  parameter: string,
  value: unknown,
  depth = 1,
): asserts value is NodeSpec {
  const shape = "object with 'driver', as { driver: 'file', filename: 'vm.img' }";
  if (!isObject(value) || value instanceof Disk) refuse(operation, parameter, shape, value);
  const { driver } = value;
  if (typeof driver !== "string") refuse(operation, `${parameter}.driver`, "string", driver);
  if (driver === "attached")
    refuse(operation, `${parameter}.driver`, "another driver, with the disk as its file", driver);
  if (driver === "snapshot" && operation !== "attach")
    refuse(operation, `${parameter}.driver`, "a node; attach the snapshot, and give that disk", driver);
  if (depth > nodesMax) refuse(operation, "spec", `at most ${nodesMax} nodes on each other`, value);
  for (const [option, one] of Object.entries(value)) {
    const name = `${parameter}.${option}`;
    if (typeof one === "function" || typeof one === "symbol") refuse(operation, name, "a value", one);
    if (one instanceof Disk) checkUnder(operation, name, option, one);
    else if (option === "file" && isObject(one)) checkNodeSpec(operation, name, one, depth + 1);
  }
}

/** A disk may be what an attached one is a window of. What a job opens for itself is no window: nobody would know of it. */
function checkUnder(operation: string, name: string, option: string, disk: Disk): void {
  if (operation !== "attach") refuse(operation, name, "a node; attach the window, and give that disk", disk);
  if (option !== "file") refuse(operation, name, "a value; a disk can be a 'file'", disk);
}

/** @throws RefusalError for what is no list of actions of these kinds */
export function checkActions(operation: string, actions: unknown, kinds: readonly string[]): void {
  checkList(operation, "actions", actions);
  for (const [index, action] of (actions as unknown[]).entries()) {
    checkObject(operation, `actions[${index}]`, action);
    const { type, disk, signal, sources } = action as Readonly<Record<string, unknown>>;
    if (typeof type !== "string" || !kinds.includes(type))
      refuse(operation, `actions[${index}].type`, `one of ${kinds.join(", ")}`, type);
    if (type !== "abort") checkDisk(type === "backup" ? "backup" : operation, "disk", disk);
    if (type === "backup") checkSignal("backup", signal);
    if (type === "bitmap-merge") checkMergeSources("bitmap merge", sources);
  }
}
