/**
 * Bytes to tokens, in pieces of any size: a token may be cut anywhere.
 *
 * Beside JSON it takes strings in single quotes, as QEMU does. What is no token becomes an `error` token of the bytes up to
 * and with the one that did not fit; after it the lexer *recovers*: it skips until a structural character, a control
 * character other than tab (a line's end, usually), or 0xFE or 0xFF, which no text contains. So a client that has lost its
 * place sends one of those and begins anew.
 *
 * A number or a keyword ends where something else begins, so it is told only when the next byte is there.
 */

export type TokenKind = "{" | "}" | "[" | "]" | ":" | "," | "string" | "number" | "keyword" | "error";

export interface Token {
  readonly kind: TokenKind;
  /** With the quotes, for a string. Valid after the call: it is the token's own copy, or a view of the chunk that nobody changes. */
  readonly bytes: Uint8Array;
}

type State =
  | "start"
  | "recovery"
  | "line"
  | "string"
  | "escape"
  | "keyword"
  | "minus"
  | "zero"
  | "digits"
  | "point"
  | "fraction"
  | "exponent"
  | "exponent sign"
  | "exponent digits";

const doubleQuote = 0x22;
const singleQuote = 0x27;
const backslash = 0x5c;
const minus = 0x2d;
const plus = 0x2b;
const point = 0x2e;
const zero = 0x30;
const tab = 0x09;
/** The first of two bytes that are in no UTF-8. */
const neverText = 0xfe;

const structural = new Map<number, TokenKind>(
  (["{", "}", "[", "]", ":", ","] as const).map((kind) => [kind.charCodeAt(0), kind]),
);

export class JsonLexer {
  readonly #emit: (token: Token) => void;
  readonly #sizeMax: number;
  #state: State = "start";
  #quote = 0;
  /** Bytes of the present token from earlier chunks. */
  readonly #pieces: Uint8Array[] = [];
  #piecesLength = 0;

  /** @param sizeMax a token that grows past it is handed out as it is, so that whoever counts can refuse it */
  constructor(emit: (token: Token) => void, sizeMax: number) {
    this.#emit = emit;
    this.#sizeMax = sizeMax;
  }

  feed(chunk: Uint8Array): void {
    let start = 0; // of the token's part in this chunk
    for (let index = 0; index < chunk.length;) {
      if (this.#state === "string") index = endOfPlain(chunk, index, this.#quote);
      if (index === chunk.length) break;
      const byte = chunk[index];
      switch (this.#step(byte)) {
        case "skip":
          start = ++index;
          break;
        case "more":
          index++;
          break;
        case "again": // ended before this byte, which begins something else
          start = index;
          break;
        case "before":
          this.#end(this.#ended, chunk.subarray(start, index));
          start = index;
          break;
        case "after":
          this.#end(this.#ended, chunk.subarray(start, ++index));
          start = index;
          break;
      }
    }
    this.#keep(chunk.subarray(start));
  }

  /** Goes on after the present line's end, or where no text can be. */
  skipLine(): void {
    this.#state = "line";
  }

  /** In the middle of nothing. */
  get isIdle(): boolean {
    return this.#state === "start";
  }

  #ended: TokenKind = "error";

  /** What the byte does; `before` and `after` end a token of kind `#ended` there. */
  #step(byte: number): "skip" | "more" | "again" | "before" | "after" {
    switch (this.#state) {
      case "start":
        return this.#begin(byte);
      case "recovery":
        if (!structural.has(byte) && (byte >= 0x20 || byte === tab) && byte < neverText) return "skip";
        this.#state = "start";
        return "again";
      case "line":
        if ((byte >= 0x20 || byte === tab) && byte < neverText) return "skip";
        this.#state = "start";
        return "again";
      case "string":
        if (byte === this.#quote) return this.#close("string");
        if (byte === backslash) return this.#go("escape");
        return byte < 0x20 || byte >= neverText ? this.#fail() : "more";
      case "escape":
        return byte < 0x20 || byte >= neverText ? this.#fail() : this.#go("string");
      case "keyword":
        return isLower(byte) ? "more" : this.#finish("keyword");
      case "minus":
        return byte === zero ? this.#go("zero") : isDigit(byte) ? this.#go("digits") : this.#fail();
      case "zero": // no number begins with 0 and goes on with a digit or an exponent
        return byte === point ? this.#go("point") : isDigit(byte) ? this.#fail() : this.#finish("number");
      case "digits":
        if (isDigit(byte)) return "more";
        return byte === point ? this.#go("point") : isExponent(byte) ? this.#go("exponent") : this.#finish("number");
      case "point":
        return isDigit(byte) ? this.#go("fraction") : this.#fail();
      case "fraction":
        if (isDigit(byte)) return "more";
        return isExponent(byte) ? this.#go("exponent") : this.#finish("number");
      case "exponent":
        if (byte === minus || byte === plus) return this.#go("exponent sign");
        return isDigit(byte) ? this.#go("exponent digits") : this.#fail();
      case "exponent sign":
        return isDigit(byte) ? this.#go("exponent digits") : this.#fail();
      case "exponent digits":
        return isDigit(byte) ? "more" : this.#finish("number");
    }
  }

  #begin(byte: number): "skip" | "more" | "after" {
    const kind = structural.get(byte);
    if (kind !== undefined) return this.#close(kind);
    if (byte === 0x20 || byte === tab || byte === 0x0a || byte === 0x0d) return "skip";
    if (byte === doubleQuote || byte === singleQuote) {
      this.#quote = byte;
      return this.#go("string");
    }
    if (byte === minus) return this.#go("minus");
    if (byte === zero) return this.#go("zero");
    if (isDigit(byte)) return this.#go("digits");
    if (isLower(byte)) return this.#go("keyword");
    return this.#fail();
  }

  #go(state: State): "more" {
    this.#state = state;
    return "more";
  }
  #close(kind: TokenKind): "after" {
    this.#state = "start";
    this.#ended = kind;
    return "after";
  }
  #finish(kind: TokenKind): "before" {
    this.#state = "start";
    this.#ended = kind;
    return "before";
  }
  #fail(): "after" {
    this.#state = "recovery";
    this.#ended = "error";
    return "after";
  }

  #end(kind: TokenKind, last: Uint8Array): void {
    const bytes = this.#pieces.length === 0 ? last : Buffer.concat([...this.#pieces, last]);
    this.#pieces.length = 0;
    this.#piecesLength = 0;
    this.#emit({ kind, bytes });
  }

  #keep(rest: Uint8Array): void {
    if (rest.length === 0) return;
    // A copy: the chunk is whoever read it's to use again.
    this.#pieces.push(new Uint8Array(rest));
    this.#piecesLength += rest.length;
    if (this.#piecesLength <= this.#sizeMax) return;
    this.#end("error", new Uint8Array(0));
    this.#state = "line";
  }
}

/** Skips what stands for itself in a string. */
function endOfPlain(chunk: Uint8Array, from: number, quote: number): number {
  let index = from;
  while (index < chunk.length) {
    const byte = chunk[index];
    if (byte === quote || byte === backslash || byte < 0x20 || byte >= neverText) break;
    index++;
  }
  return index;
}

function isDigit(byte: number): boolean {
  return byte >= zero && byte <= 0x39;
}
function isLower(byte: number): boolean {
  return byte >= 0x61 && byte <= 0x7a;
}
function isExponent(byte: number): boolean {
  return byte === 0x65 || byte === 0x45;
}
