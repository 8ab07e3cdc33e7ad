/**
 * What the handshake knows of exports, and what it agrees on. The server's main thread keeps the directory; the handshake
 * only reads it; a session gets what was agreed.
 */

/** An export, as it is offered. */
export interface ExportOffer {
  /** "" is a name like any other: the default export. */
  readonly name: string;
  readonly description: string;
  /** Bytes. */
  readonly length: number;
  /** Transmission flags, without `FLAG_SEND_DF` and `FLAG_BLOCK_STATUS_PAYLOAD`, which depend on what was negotiated. */
  readonly flags: number;
  readonly blockSize: BlockSize;
  /** Full names of its metadata contexts, in the order in which they are listed; the index + 1 is the id on the wire. */
  readonly contexts: readonly string[];
}

/** Bytes. */
export interface BlockSize {
  readonly minimum: number;
  readonly preferred: number;
  /** Of a request with a payload. */
  readonly maximum: number;
}

export interface ExportDirectory {
  /** In the order in which they were added. */
  list(): Iterable<ExportOffer>;
  find(name: string): ExportOffer | undefined;
}

/** A metadata context that was selected; `id` names it on this connection. */
export interface SelectedContext {
  readonly id: number;
  readonly name: string;
}

/** What a connection has agreed on when its transmission begins. */
export interface Negotiated {
  readonly offer: ExportOffer;
  /** Structured replies, or extended headers (which imply them). */
  readonly structured: boolean;
  readonly extended: boolean;
  readonly contexts: readonly SelectedContext[];
}
