/**
 * What a check knows of the world: plain data that the coordinator fills in, so that every check is a pure function and
 * every refusal can be tested without a disk.
 */
import { refusal, type Refusal } from "../errors.ts";
import type { BitmapCondition } from "./bitmap-operation.ts";

export interface BitmapFacts extends BitmapCondition {
  readonly name: string;
  /** Bytes. */
  readonly granularity: number;
  /** Bytes of the disk that it describes. */
  readonly size: number;
}

export interface NodeFacts {
  readonly name: string;
  /** Bytes. */
  readonly length: number;
  /** Bytes that the format allocates at once; 0 where there is none or nobody knows. */
  readonly clusterSize: number;
  readonly readOnly: boolean;
  /** Equal strings are the same storage. */
  readonly identity: string;
  /** The driver can write compressed clusters. */
  readonly compression: boolean;
  /** Why it cannot be backed up now ("block device is in use by block job: backup"). */
  readonly sourceBlocked?: string;
  /** Why it cannot be a target now. */
  readonly targetBlocked?: string;
  /** The job that has ended, and whose threads still write or read here. */
  readonly lettingGo?: string;
  bitmap(name: string): BitmapFacts | undefined;
  /** Why a bitmap of this name and granularity cannot be stored with the node; `undefined` where it can. */
  storeRefusal(name: string, granularity: number): string | undefined;
}

export interface Facts {
  node(name: string): NodeFacts | undefined;
  /** The id belongs to a job that has not been forgotten. */
  job(id: string): boolean;
}

/** Where a command takes a device or a node. */
export function deviceNotFound(name: string): Refusal {
  return refusal("ERR_NODE_NOT_FOUND", `Cannot find device='${name}' nor node-name='${name}'`, { node: name });
}

/** Where a bitmap command (other than add) takes a node. */
export function nodeNotFound(name: string): Refusal {
  return refusal("ERR_NODE_NOT_FOUND", `Node '${name}' not found`, { node: name });
}

export function bitmapNotFound(node: string, name: string): Refusal {
  return refusal("ERR_BITMAP_NOT_FOUND", `Dirty bitmap '${name}' not found`, { node, bitmap: name });
}

/** A value that an argument cannot have; `value` is shown as it was given. */
export function invalidValue(parameter: string, value: unknown): Refusal {
  return refusal("ERR_INVALID_ARGUMENT", `Parameter '${parameter}' does not accept value '${String(value)}'`, {
    parameter,
    value: String(value),
  });
}

/** An argument of the wrong kind. */
export function invalidType(parameter: string, expected: "string" | "boolean" | "integer"): Refusal {
  return refusal("ERR_INVALID_ARGUMENT", `Invalid parameter type for '${parameter}', expected: ${expected}`, {
    parameter,
    expected,
  });
}
