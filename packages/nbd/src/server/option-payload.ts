/**
 * The payload of an option, read field by field. Whatever is wrong with it is kept as a refusal: reads after that answer
 * zeroes, so that a parser needs one look at its end and not one per field.
 */
import { REP_ERR_INVALID, REP_ERR_TOO_BIG } from "../protocol/constants.ts";
import { NAME_BYTES_MAX, NAME_BYTES_TOLD, QUERIES_MAX } from "./handshake-limits.ts";
import { optionName } from "./option-names.ts";

/** Why an option is refused: the type of the reply, and its text. */
export interface OptionRefusal {
  readonly reply: number;
  readonly text: string;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of bytes, or undefined where they are no UTF-8. A byte order mark is part of a name like any character. */
export function decodeName(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

export class OptionPayload {
  readonly #option: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;
  #refusal: OptionRefusal | undefined;

  constructor(option: number, bytes: Uint8Array) {
    this.#option = optionName(option);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The first thing that is wrong. */
  refused(): OptionRefusal | undefined {
    return this.#refusal;
  }

  /** The name of an export: its length, and as many bytes. */
  name(): string {
    const length = this.#u32();
    if (length > NAME_BYTES_MAX) return this.#refuse(`Invalid name length: ${length}`);
    return this.#string(length);
  }

  /** Kinds of information that are asked for: their count, and as many numbers. */
  requests(): ReadonlySet<number> {
    const asked = new Set<number>();
    for (let left = this.#u16(); left > 0 && this.#refusal === undefined; left--) asked.add(this.#u16());
    return asked;
  }

  /** Queries of metadata contexts: their count, and for each its length and text. */
  queries(): ReadonlySet<string> {
    const queries = new Set<string>();
    const count = this.#u32();
    if (count > QUERIES_MAX) {
      this.#refuse(`${count} queries, of which ${QUERIES_MAX} are the most that can be`, REP_ERR_TOO_BIG);
    }
    for (let left = count; left > 0 && this.#refusal === undefined; left--) queries.add(this.#query());
    return queries;
  }

  /** To be called last: nothing may be left. */
  end(): void {
    if (this.#refusal === undefined && this.#offset !== this.#bytes.length) {
      this.#refuse(`option '${this.#option}' has unexpected length`);
    }
  }

  /**
   * One that is longer than any context's name is skipped, as in QEMU. It still counts as a query, which matches nothing:
   * a list of only such is not a list of everything.
   */
  #query(): string {
    const length = this.#u32();
    if (length <= NAME_BYTES_MAX) return this.#string(length);
    if (this.#has(length)) this.#offset += length;
    return "";
  }

  #u16(): number {
    return this.#has(2) ? this.#view.getUint16((this.#offset += 2) - 2) : 0;
  }

  #u32(): number {
    return this.#has(4) ? this.#view.getUint32((this.#offset += 4) - 4) : 0;
  }

  #string(length: number): string {
    if (!this.#has(length)) return "";
    const bytes = this.#bytes.subarray(this.#offset, this.#offset + length);
    this.#offset += length;
    if (bytes.includes(0)) return this.#refuse(`Unexpected embedded NUL in option ${this.#option}`);
    return decodeName(bytes) ?? this.#refuse(`Name that is not UTF-8 in option ${this.#option}`);
  }

  #has(length: number): boolean {
    if (this.#refusal !== undefined) return false;
    if (this.#offset + length <= this.#bytes.length) return true;
    this.#refuse(`Inconsistent lengths in option ${this.#option}`);
    return false;
  }

  #refuse(text: string, reply: number = REP_ERR_INVALID): "" {
    this.#refusal ??= { reply, text };
    return "";
  }
}

/** A name for the text of a refusal: whole characters of its first 80 bytes, and dots where that is not all. */
export function nameToTell(name: string): string {
  const { read } = new TextEncoder().encodeInto(name, new Uint8Array(NAME_BYTES_TOLD));
  return read === name.length ? name : `${name.slice(0, read)}...`;
}
