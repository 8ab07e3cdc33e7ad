/**
 * What this client refuses to send, as no server would take it (`ERR_NBD_REQUEST`), and what this server has said that it
 * does not offer (`ERR_NBD_UNSUPPORTED`).
 */
import { assertRequest, BlockError, type RequestKind } from "@heirloom/block";
import * as nbd from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import type { ExportDescription } from "./handshake.ts";

/** Flags of requests that change the export, and the transmission flag that each needs. */
const NEEDED: readonly (readonly [command: number, transmission: number, words: string])[] = [
  [nbd.CMD_FLAG_FUA, nbd.FLAG_SEND_FUA, "fua (writes that are stable when they are answered)"],
  [nbd.CMD_FLAG_FAST_ZERO, nbd.FLAG_SEND_FAST_ZERO, "fastZero"],
  [nbd.CMD_FLAG_DF, nbd.FLAG_SEND_DF, "dontFragment"],
];

const COMMANDS: Readonly<Record<number, number>> = {
  [nbd.CMD_FLUSH]: nbd.FLAG_SEND_FLUSH,
  [nbd.CMD_TRIM]: nbd.FLAG_SEND_TRIM,
  [nbd.CMD_CACHE]: nbd.FLAG_SEND_CACHE,
  [nbd.CMD_WRITE_ZEROES]: nbd.FLAG_SEND_WRITE_ZEROES,
};

const KINDS: Readonly<Record<number, RequestKind>> = {
  [nbd.CMD_READ]: "read",
  [nbd.CMD_WRITE]: "write",
  [nbd.CMD_FLUSH]: "flush",
  [nbd.CMD_TRIM]: "discard",
  [nbd.CMD_CACHE]: "read",
  [nbd.CMD_WRITE_ZEROES]: "write-zeroes",
  [nbd.CMD_BLOCK_STATUS]: "status",
};

/** @throws NbdError ERR_NBD_REQUEST or ERR_NBD_UNSUPPORTED, before anything is sent */
export function checkCommand(
  operation: string,
  description: ExportDescription,
  type: number,
  flags: number,
  offset: number,
  length: number,
): void {
  const readOnly = (description.flags & nbd.FLAG_READ_ONLY) !== 0;
  try {
    const limits = { length: description.length, alignment: description.blockSize.minimum, readOnly };
    assertRequest(limits, KINDS[type], offset, length, description.name);
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    const { errno, message } = error;
    throw new NbdError("ERR_NBD_REQUEST", message, { errno, offset, cause: error });
  }
  const command = COMMANDS[type];
  if (command !== undefined && (description.flags & command) === 0) throw unsupported(operation, operation);
  for (const [flag, needed, words] of NEEDED) {
    if ((flags & flag) !== 0 && (description.flags & needed) === 0) throw unsupported(operation, words);
  }
}

function unsupported(operation: string, what: string): NbdError {
  return new NbdError("ERR_NBD_UNSUPPORTED", `${operation}: the server does not offer ${what}`);
}
