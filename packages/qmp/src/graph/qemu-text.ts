/** What the layers below throw, as QEMU says it. */
import { BlockError, errnoText } from "@heirloom/block";
import { HeirloomError } from "@heirloom/runtime";
import { QmpError } from "../qmp-error.ts";

/** A `QmpError` of anything that was thrown. */
export function asQmpError(error: unknown): QmpError {
  if (error instanceof QmpError) return error;
  if (error instanceof BlockError) return new QmpError(blockText(error), "GenericError", { cause: error });
  if (error instanceof HeirloomError) return new QmpError(refusalText(error), "GenericError", { cause: error });
  return new QmpError(error instanceof Error ? error.message : String(error), "GenericError", { cause: error });
}

function blockText(error: BlockError): string {
  const { code, errno, node } = error;
  if (node?.startsWith("nbd:") === true) return nbdText(error, node);
  if (code === "ERR_NODE_OPEN" && errno !== undefined) return `Could not open '${node ?? ""}': ${errnoText(errno)}`;
  if (code === "ERR_IMAGE_LOCKED")
    return `Failed to get ${/for reading/.test(error.message) ? "shared " : ""}"write" lock`;
  return error.message;
}

/** @param node `nbd:unix:PATH:EXPORT` or `nbd:HOST:PORT:EXPORT` */
function nbdText({ errno, message }: BlockError, node: string): string {
  if (message.includes("it has no such export")) return "Requested export not available";
  const where = node.replace(/^nbd:(unix:)?/, "").replace(/:[^:]*$/, "");
  return errno === undefined ? message : `Failed to connect to '${where}': ${errnoText(errno)}`;
}

function refusalText(error: HeirloomError): string {
  // QEMU names the guest device here, and a daemon's nodes have none.
  return error.code === "ERR_BACKUP_COMPRESSION" ? "Compression is not supported for this drive " : error.desc;
}

/** Carries something out; what it throws is told in QEMU's words. */
export async function inQemuWords<Value>(work: () => Promise<Value> | Value): Promise<Value> {
  try {
    return await work();
  } catch (error) {
    throw asQmpError(error);
  }
}
