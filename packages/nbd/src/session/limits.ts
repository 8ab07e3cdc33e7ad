/** What bounds a session's work and memory. Bytes, unless the name says otherwise. */

/**
 * The payload of a request that is served in one go. A write of up to this many bytes is not begun before all of it is
 * there, so a connection that breaks tears no such write; longer ones are written as they arrive.
 */
export const PIECE_BYTES_MAX: number = 256 * 1024;

/** Where one `recv` of a thread goes: a whole piece, its header, and some of what comes behind it. */
export const INPUT_BYTES: number = PIECE_BYTES_MAX + 4096;
/** Where replies gather before a `send`: a whole piece, and headers. */
export const OUTPUT_BYTES: number = PIECE_BYTES_MAX + 4096;
/**
 * What the kernel is asked to hold of a connection each way; it gives what its limits allow. With Linux's defaults a piece does
 * not fit, and the rest of it waits until the client has taken most of the beginning.
 */
export const SOCKET_BYTES: number = 1024 * 1024;
/** Any header of a reply, or an error with its text. */
export const REPLY_ROOM = 512;

/** Replies are sent when so many bytes of them have gathered, so that the client works while we do. */
export const SEND_BYTES: number = 32 * 1024;
/** The same for their count. */
export const SEND_REPLIES = 16;

/** From here on a read looks for holes first: for shorter ones the look costs more than the bytes. */
export const SPARSE_READ_BYTES: number = 64 * 1024;

/** Discards and zeroes up to this are done in one go; longer ones take long and are handed to a helper. */
export const INLINE_EFFECT_BYTES: number = 1024 * 1024;

/** Requests of one connection that are with helpers; then it is not read from any more. */
export const PARKED_MAX = 32;
/** Times that one connection is read from before it is the others' turn. */
export const TURNS = 4;

/** Extents that one answer of block status holds for each of its contexts: it is to be quick, and clients ask again. */
export const EXTENTS_MAX = 2048;

/** How long connections that wait for payload memory wait before they look again: others may have given some back. */
export const STARVED_MS = 10;
/**
 * An idle thread wakes up so often, for nothing: a process that exits, or a pool that is destroyed, ends a thread only when
 * it is not in a system call, and nobody may be left to ring for it.
 */
export const IDLE_MS = 500;
/** How often a thread with requests at helpers looks whether one was left lying. */
export const UNHEARD_MS = 20;
