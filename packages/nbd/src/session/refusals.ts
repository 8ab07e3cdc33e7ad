/** Requests that are refused before anything is done: which error on the wire, and what is said. */
import {
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_PAYLOAD_LEN,
  CMD_FLAG_REQ_ONE,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EPERM,
} from "../protocol/constants.ts";
import type { Exported } from "./exported.ts";
import { commandName } from "./request.ts";

export interface Refusal {
  /** Of the wire. */
  readonly error: number;
  readonly text: string;
}

/** Flags that each command takes, by its number. */
const allowedFlags: readonly number[] = [
  CMD_FLAG_FUA | CMD_FLAG_DF,
  CMD_FLAG_FUA,
  0xffff,
  CMD_FLAG_FUA,
  CMD_FLAG_FUA,
  CMD_FLAG_FUA,
  CMD_FLAG_FUA | CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA | CMD_FLAG_REQ_ONE,
];

/** For flags that a known command does not take: DF only where replies are structured, PAYLOAD_LEN with extended headers. */
export function strangeFlags(type: number, flags: number, structured: boolean, extended: boolean): Refusal | undefined {
  const known = structured ? allowedFlags[type] : allowedFlags[type] & ~CMD_FLAG_DF;
  const allowed = extended ? known | CMD_FLAG_PAYLOAD_LEN : known;
  if ((flags & ~allowed) === 0) return undefined;
  const text = `unsupported flags for command ${commandName(type)} (got 0x${flags.toString(16)})`;
  return { error: NBD_EINVAL, text };
}

/**
 * For a range that is none of this export, or a change of one that is read-only. The protocol's text wants ENOSPC past the
 * end of writes, and EINVAL of reads and discards.
 */
export function rangeRefusal(exported: Exported, type: number, offset: number, length: number): Refusal | undefined {
  const writes = type === CMD_WRITE || type === CMD_WRITE_ZEROES;
  if ((writes || type === CMD_TRIM) && !exported.writable) return { error: NBD_EPERM, text: "Export is read-only" };
  if (offset > exported.length || length > exported.length - offset) {
    const text = `operation past EOF; From: ${offset}, Len: ${length}, Size: ${exported.length}`;
    return { error: writes ? NBD_ENOSPC : NBD_EINVAL, text };
  }
  const { alignment } = exported;
  if (alignment === 1 || (offset % alignment === 0 && length % alignment === 0)) return undefined;
  return { error: NBD_EINVAL, text: `${commandName(type)} is not aligned to ${alignment} bytes` };
}

export function tooLong(exported: Exported, length: number): Refusal {
  const text = `len (${length}) is larger than max len (${exported.payloadBytesMax})`;
  return { error: NBD_EINVAL, text };
}
