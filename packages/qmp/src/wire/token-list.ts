/**
 * The tokens of one value, without an object for each: a request of a few bytes a token would otherwise take a hundred times
 * its size. Kinds and ends are in arrays of their own, the text of all of them in one buffer.
 */
import type { Token, TokenKind } from "./json-lexer.ts";

const kinds: readonly TokenKind[] = ["{", "}", "[", "]", ":", ",", "string", "number", "keyword", "error"];
const numberOf = Object.fromEntries(kinds.map((kind, number) => [kind, number])) as Readonly<Record<TokenKind, number>>;
const tokensFirst = 64;
const bytesFirst = 4096;

export class TokenList {
  #kinds = new Uint8Array(tokensFirst);
  /** Where each ends in the text; it begins where the one before it ends. */
  #ends = new Uint32Array(tokensFirst);
  #text = new Uint8Array(bytesFirst);
  #count = 0;

  get length(): number {
    return this.#count;
  }
  /** Of all tokens together. */
  get bytes(): number {
    return this.#count === 0 ? 0 : this.#ends[this.#count - 1];
  }

  push({ kind, bytes }: Token): void {
    const start = this.bytes;
    const end = start + bytes.length;
    if (this.#count === this.#kinds.length) {
      this.#kinds = grown(this.#kinds, new Uint8Array(this.#count * 2));
      this.#ends = grown(this.#ends, new Uint32Array(this.#count * 2));
    }
    if (end > this.#text.length) this.#text = grown(this.#text, new Uint8Array(Math.max(end, this.#text.length * 2)));
    this.#kinds[this.#count] = numberOf[kind];
    this.#ends[this.#count] = end;
    this.#text.set(bytes, start);
    this.#count++;
  }

  kind(index: number): TokenKind | undefined {
    return index < this.#count ? kinds[this.#kinds[index]] : undefined;
  }

  /** Valid until the next push. */
  text(index: number): Uint8Array {
    return this.#text.subarray(index === 0 ? 0 : this.#ends[index - 1], this.#ends[index]);
  }

  /** Empty; what a large value took is given back. */
  clear(): void {
    this.#count = 0;
    if (this.#kinds.length > 64 * tokensFirst) {
      this.#kinds = new Uint8Array(tokensFirst);
      this.#ends = new Uint32Array(tokensFirst);
    }
    if (this.#text.length > 16 * bytesFirst) this.#text = new Uint8Array(bytesFirst);
  }
}

function grown<Numbers extends Uint8Array | Uint32Array>(from: Numbers, into: Numbers): Numbers {
  into.set(from);
  return into;
}
