/** What the journal refuses or fails with, in a sentence. Crosses threads as its fields. */
export type JournalErrorCode =
  /** The file is no sidecar, or its records are damaged. */
  | "ERR_JOURNAL_DAMAGED"
  /** A format that this version does not know. */
  | "ERR_JOURNAL_VERSION"
  /** Another process has the sidecar, or one whose bitmaps it would take. */
  | "ERR_JOURNAL_LOCKED"
  /** A place that does not outlive a power loss, or no place at all. */
  | "ERR_JOURNAL_PLACE"
  /** No room: in the directory, or on the file system. */
  | "ERR_JOURNAL_FULL"
  /** A write or a sync failed. */
  | "ERR_JOURNAL_IO";

export class JournalError extends Error {
  override readonly name: string = "JournalError";
  readonly code: JournalErrorCode;

  constructor(code: JournalErrorCode, message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}
