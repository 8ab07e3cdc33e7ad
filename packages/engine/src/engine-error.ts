/** What the data plane refuses to people, beside the `BlockError`s of nodes. */
export type EngineErrorCode =
  /** A spill file cannot be made or grown; the message says why. */
  | "ERR_SPILL"
  /** A thread that may not do this; the message says what it needs first. */
  | "ERR_THREAD"
  /** A helper failed in a way that nobody foresaw. */
  | "ERR_HELPER";

export class EngineError extends Error {
  readonly code: EngineErrorCode;
  constructor(code: EngineErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "EngineError";
    this.code = code;
  }
}
