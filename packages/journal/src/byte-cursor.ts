/** Reading and writing the variable parts of a record, one field after the other. */
import { JournalError } from "./journal-error.ts";
import { viewOf } from "./record.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export class ByteWriter {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.at = at;
  }

  u8(value: number): void {
    this.#view.setUint8(this.#take(1), value);
  }
  u16(value: number): void {
    this.#view.setUint16(this.#take(2), value, true);
  }
  u32(value: number): void {
    this.#view.setUint32(this.#take(4), value, true);
  }
  u64(value: number | bigint): void {
    this.#view.setBigUint64(this.#take(8), BigInt(value), true);
  }
  bytes(value: Uint8Array): void {
    this.#bytes.set(value, this.#take(value.length));
  }
  /** Length in two bytes, then UTF-8. */
  text(value: string): void {
    const bytes = encoder.encode(value);
    this.u16(bytes.length);
    this.bytes(bytes);
  }

  #take(count: number): number {
    const { at } = this;
    if (at + count > this.#bytes.length) {
      throw new JournalError(
        "ERR_JOURNAL_FULL",
        "journal: the directory is full; remove bitmaps, or give shorter names",
      );
    }
    this.at += count;
    return at;
  }
}

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at: number;

  /** @param bytes the record, no longer than its frame says */
  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.at = at;
  }

  get atEnd(): boolean {
    return this.at === this.#bytes.length;
  }
  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }
  /** A byte count, a time, an offset: up to 2^53. */
  number(): number {
    const value = this.u64();
    if (value > 2n ** 53n) throw damaged(`a number of ${value}`);
    return Number(value);
  }
  bytes(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.slice(at, at + count);
  }
  text(): string {
    try {
      return decoder.decode(this.bytes(this.u16()));
    } catch (cause) {
      if (cause instanceof JournalError) throw cause;
      throw damaged("text that is not UTF-8");
    }
  }

  #take(count: number): number {
    const { at } = this;
    if (at + count > this.#bytes.length) throw damaged("a record that ends in the middle of a field");
    this.at += count;
    return at;
  }
}

function damaged(what: string): JournalError {
  return new JournalError("ERR_JOURNAL_DAMAGED", `journal: its directory has a right checksum but holds ${what}`);
}
