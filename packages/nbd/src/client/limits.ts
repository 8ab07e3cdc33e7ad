/**
 * What this client takes from a server, and no more: a limit for every length and count that is read off the wire. A
 * server that passes one is not believed any further (`ERR_NBD_PROTOCOL`).
 */
import { STRING_BYTES_MAX } from "../protocol/constants.ts";

/** Payload of one option reply. The largest that has a meaning is two strings and their lengths. */
export const OPTION_REPLY_BYTES_MAX: number = 64 * 1024;

/** All replies to one option, headers included: some 30,000 exports in a list, and an end to replies without end. */
export const OPTION_BYTES_MAX: number = 4 * 1024 * 1024;

/** Exports of a list that are asked about one by one. */
export const LIST_DETAILS_MAX = 1024;

/** Text of an error; see `plainText`. */
export const ERROR_TEXT_BYTES_MAX: number = STRING_BYTES_MAX;

/** An error chunk: the error, its text, an offset, and room for fields that are yet unknown. */
export const ERROR_CHUNK_BYTES_MAX: number = ERROR_TEXT_BYTES_MAX + 1024;

/** Chunks of one reply. A read of 32 MiB in sectors has 65,536. */
export const REPLY_CHUNKS_MAX: number = 256 * 1024;

/** Separate runs of one read that are filled while there are gaps between them: chunks may come in any order. */
export const READ_RUNS_MAX = 4096;

/** Descriptors in one answer to a block status request, over all contexts. QEMU sends up to 131,072, nbdkit a million. */
export const STATUS_EXTENTS_MAX: number = 2 * 1024 * 1024;
