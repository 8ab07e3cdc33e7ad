/**
 * Names that users give to things (reference 5.3): a letter, then letters, digits, `-`, `.` and `_`. Names that the
 * runtime makes itself begin with `#` and can be looked up but not given.
 */
import { refusal, type Refusal } from "../errors.ts";

export const nodeNameLengthMax = 31;

export function isIdentifier(text: string): boolean {
  return /^[A-Za-z][A-Za-z0-9._-]*$/.test(text);
}

/** A new job's id; empty where it was left out. */
export function refuseJobId(id: string, isTaken: (id: string) => boolean): Refusal | undefined {
  if (!isIdentifier(id)) return refusal("ERR_JOB_ID", `Invalid job ID '${id}'`, { job: id });
  if (isTaken(id)) return refusal("ERR_JOB_EXISTS", `Job ID '${id}' already in use`, { job: id });
  return undefined;
}

/** A new node's name. */
export function refuseNodeName(name: string, isTaken: (name: string) => boolean): Refusal | undefined {
  if (!isIdentifier(name)) return refusal("ERR_NODE_NAME", `Invalid node-name: '${name}'`, { node: name });
  if (isTaken(name)) {
    return refusal("ERR_NODE_EXISTS", `Duplicate nodes with node-name='${name}'`, { node: name });
  }
  if (name.length > nodeNameLengthMax) return refusal("ERR_NODE_NAME", "Node name too long", { node: name });
  return undefined;
}

export function refuseExportId(id: string): Refusal | undefined {
  return isIdentifier(id) ? undefined : refusal("ERR_EXPORT_ID", "Invalid block export id", { export: id });
}

/** The id of an object (secret, credentials, throttle group). */
export function refuseObjectId(id: string): Refusal | undefined {
  return isIdentifier(id)
    ? undefined
    : refusal("ERR_INVALID_ARGUMENT", "Parameter 'id' expects an identifier", { parameter: "id", value: id });
}
