/** What a server refuses; nothing has changed then. */
export type NbdServerErrorCode =
  /** An option that cannot be; the message says what was expected. */
  | "ERR_NBD_OPTION"
  | "ERR_NBD_EXPORT_EXISTS"
  /** There is no such export. */
  | "ERR_NBD_EXPORT"
  | "ERR_NBD_STOPPED";

export class NbdServerError extends Error {
  readonly code: NbdServerErrorCode;

  constructor(code: NbdServerErrorCode, message: string) {
    super(message);
    this.name = "NbdServerError";
    this.code = code;
  }
}
