/** What can be wrong with TLS, grouped by what can be done about it. */
export type TlsErrorCode =
  /** Files or texts of credentials: missing, unreadable, expired, not belonging together. Nothing was started. */
  | "ERR_NBD_TLS_CREDENTIALS"
  /** The two sides did not come to terms, or what the peer showed could not be verified. */
  | "ERR_NBD_TLS_HANDSHAKE"
  /** The peer is who it says it is, and not among those who may come in. */
  | "ERR_NBD_TLS_NOT_ALLOWED"
  | "ERR_NBD_TLS_TIMEOUT"
  /** The caller gave it up. */
  | "ERR_NBD_TLS_ABORTED"
  /** The thread that carries TLS could not do it, or died. */
  | "ERR_NBD_TLS_THREAD";

export class TlsError extends Error {
  readonly code: TlsErrorCode;

  constructor(code: TlsErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "TlsError";
    this.code = code;
  }
}
