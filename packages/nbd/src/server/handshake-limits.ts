/**
 * What a client may ask of us before it has agreed on anything. Every length that comes from the wire meets one of these
 * before it is believed, and a client that keeps to the protocol meets none.
 */
import { STRING_BYTES_MAX } from "../protocol/constants.ts";

/** An option that says it is longer than this ends the connection, as in QEMU: nothing that anyone defined comes near. */
export const OPTION_BYTES_MAX: number = 32 * 1024 * 1024;

/**
 * Payload that is kept until it is complete. INFO and GO need at most 4 + 4096 + 2 + 2 x 65535 = 135,172 bytes; 256 KiB
 * is the next power of two, and room for some thousand queries of metadata contexts. More is drained, and refused.
 */
export const PAYLOAD_BYTES_KEPT_MAX: number = 256 * 1024;

/** Queries of one LIST or SET_META_CONTEXT; QEMU's and libnbd's clients send fewer than ten. */
export const QUERIES_MAX = 4096;

/** Options of one connection. `qemu-nbd --list` asks twice per export on one connection, so this is 32,768 exports. */
export const OPTIONS_MAX = 65_536;

/** Payload of all options of one connection: two of the longest, drained, or 2 KiB for each that it may send. */
export const PAYLOAD_BYTES_MAX: number = 2 * OPTION_BYTES_MAX + OPTIONS_MAX * 2048;

/**
 * Replies are handed out in steps of about this: a client that pipelines LIST without reading gets no memory of ours,
 * since the caller has flushed one step before it asks for the next.
 */
export const OUTPUT_BYTES_STEP: number = 64 * 1024;

/** A name in an error's text is cut to this many bytes and gets dots, as in QEMU. */
export const NAME_BYTES_TOLD = 80;

/** The longest name of an export, in bytes of UTF-8. */
export const NAME_BYTES_MAX: number = STRING_BYTES_MAX;

/**
 * The protocol's text asks clients that were told nothing of block sizes to keep to multiples of this. An export that
 * needs more is not given to a client that did not ask.
 */
export const BLOCK_BYTES_ASSUMED = 512;
