/** The envelope of a command: what stands around its arguments, checked as QEMU does, in QEMU's words. */
import { QmpError } from "../qmp-error.ts";
import { dictOrder } from "./dict-order.ts";
import type { JsonObject, JsonValue } from "./json-value.ts";

export interface Request {
  readonly command: string;
  /** Out of band: `exec-oob` in place of `execute`. */
  readonly outOfBand: boolean;
  readonly arguments: JsonObject;
}

/** @param outOfBandAllowed the client has enabled the capability; otherwise `exec-oob` is no member @throws QmpError */
export function readRequest(value: JsonValue, outOfBandAllowed: boolean): Request {
  if (!(value instanceof Map)) throw new QmpError("QMP input must be a JSON object");
  let verb: "execute" | "exec-oob" | undefined;
  let given: JsonObject = new Map();
  // In QEMU's order: of several faults the same one is told.
  for (const name of dictOrder(value.keys())) {
    const member = value.get(name);
    if (name === "execute" || (name === "exec-oob" && outOfBandAllowed)) {
      if (typeof member !== "string") throw new QmpError(`QMP input member '${name}' must be a string`);
      if (verb !== undefined) throw new QmpError("QMP input member 'execute' clashes with 'exec-oob'");
      verb = name;
    } else if (name === "arguments") {
      if (!(member instanceof Map)) throw new QmpError("QMP input member 'arguments' must be an object");
      given = member;
    } else if (name !== "id") {
      throw new QmpError(`QMP input member '${name}' is unexpected`);
    }
  }
  if (verb === undefined) throw new QmpError("QMP input lacks member 'execute'");
  return { command: value.get(verb) as string, outOfBand: verb === "exec-oob", arguments: given };
}

/** What is echoed; undefined where the client gave none. */
export function idOf(value: JsonValue): JsonValue | undefined {
  return value instanceof Map ? value.get("id") : undefined;
}
