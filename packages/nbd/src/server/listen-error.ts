/** Why a server does not listen. Nothing was made, and nothing that was there was touched. */
export type ListenErrorCode =
  /** Somebody listens there. */
  | "ERR_NBD_LISTEN_IN_USE"
  /** The path holds something that is no socket. */
  | "ERR_NBD_LISTEN_NOT_A_SOCKET"
  /** A path, host or port that cannot be listened on; the message says what was expected. */
  | "ERR_NBD_LISTEN_ADDRESS"
  /** The system refused; `cause` or the message says why. */
  | "ERR_NBD_LISTEN"
  /** System calls that Node lacks are needed, and koffi is missing. */
  | "ERR_NBD_LISTEN_UNSUPPORTED";

export class ListenError extends Error {
  readonly code: ListenErrorCode;

  constructor(code: ListenErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ListenError";
    this.code = code;
  }
}
