/** Names that people may give to nodes. */
import { QmpError } from "../qmp-error.ts";

const nodeNameMax = 31;

export function isIdentifier(text: string): boolean {
  return /^[A-Za-z][A-Za-z0-9._-]*$/.test(text);
}

/** @throws QmpError */
export function refuseName(name: string, isTaken: (name: string) => boolean): void {
  if (!isIdentifier(name)) throw new QmpError(`Invalid node-name: '${name}'`);
  if (isTaken(name)) throw new QmpError(`Duplicate nodes with node-name='${name}'`);
  if (Buffer.byteLength(name) > nodeNameMax) throw new QmpError("Node name too long");
}
