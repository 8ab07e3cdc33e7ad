/** What a client is told when a command fails. Only the class is a promise of the protocol; the text is QEMU's where QEMU has one. */

export type QmpErrorClass = "GenericError" | "CommandNotFound" | "DeviceNotActive" | "DeviceNotFound" | "KVMMissingCap";

export class QmpError extends Error {
  override readonly name: string = "QmpError";
  readonly class: QmpErrorClass;
  /** The text alone: what the wire calls `desc`. */
  readonly desc: string;

  constructor(desc: string, errorClass: QmpErrorClass = "GenericError", options: { readonly cause?: unknown } = {}) {
    super(desc, "cause" in options ? { cause: options.cause } : undefined);
    this.class = errorClass;
    this.desc = desc;
  }
}
