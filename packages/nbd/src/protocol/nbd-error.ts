/**
 * The one error class of this package, grouped by what the caller may do next. The message starts with the operation
 * and says what was expected.
 */
import type { Errno } from "@heirloom/block";

export type NbdErrorCode =
  /** A text that is no NBD URI, or one that we do not take; the message says what was expected. */
  | "ERR_NBD_URI"
  /** An option of ours that is wrong; nothing was connected. */
  | "ERR_NBD_OPTION"
  /** Nobody there: the socket could not be connected. `errno` says why where the system said it. */
  | "ERR_NBD_CONNECT"
  /** A deadline passed: of the connect and handshake together, or of a request that made no progress. */
  | "ERR_NBD_TIMEOUT"
  /** TLS was asked for and cannot be had, or the peer could not be verified. Nothing was sent in the clear. */
  | "ERR_NBD_TLS"
  /** The server will not have us, or not there: its reply says why (`reply`). */
  | "ERR_NBD_REFUSED"
  /** The server has no export of that name. */
  | "ERR_NBD_EXPORT_UNKNOWN"
  /** The peer breaks the protocol. The connection is closed, for nothing after it can be trusted. */
  | "ERR_NBD_PROTOCOL"
  /** The server does not offer what this needs. */
  | "ERR_NBD_UNSUPPORTED"
  /** A request that no server would take, so it was not sent: out of range, misaligned, a change where only reads are. */
  | "ERR_NBD_REQUEST"
  /** The server answered with an error: `errno`, and its own words in the message. */
  | "ERR_NBD_IO"
  /** The connection went away under the request; whether it was carried out is unknown. */
  | "ERR_NBD_DISCONNECTED"
  /** After a reconnect the server has another export under that name: of another length, or with less to offer. */
  | "ERR_NBD_CHANGED"
  /** The client was closed. */
  | "ERR_NBD_CLOSED";

export interface NbdErrorDetails {
  readonly errno?: Errno | undefined;
  /** Byte offset of the request. */
  readonly offset?: number | undefined;
  /** Type of the option reply that refused, as on the wire. */
  readonly reply?: number | undefined;
  readonly cause?: unknown;
}

/**
 * @example
 * try { await NbdClient.connect("nbd://localhost/disk"); }
 * catch (error) { if (error instanceof NbdError && error.code === "ERR_NBD_EXPORT_UNKNOWN") ... }
 */
export class NbdError extends Error {
  readonly code: NbdErrorCode;
  readonly errno: Errno | undefined;
  readonly offset: number | undefined;
  readonly reply: number | undefined;

  constructor(code: NbdErrorCode, message: string, details: NbdErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "NbdError";
    this.code = code;
    this.errno = details.errno;
    this.offset = details.offset;
    this.reply = details.reply;
  }
}
