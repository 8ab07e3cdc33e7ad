/**
 * A stream of JSON values, with the limits that keep a hostile client from our memory.
 *
 * Tokens are collected until brackets and braces, each counted by itself, are balanced or one of them closes too often;
 * then they are parsed. A fault, or a limit, drops what was collected, and reading goes on with the next token: what is left
 * of a broken object usually gives one more fault, as in QEMU.
 */
import { JsonLexer, type Token } from "./json-lexer.ts";
import { parseTokens } from "./json-parser.ts";
import { JsonSyntaxError } from "./json-syntax-error.ts";
import { showBytes } from "./json-text.ts";
import type { JsonValue } from "./json-value.ts";

export interface JsonLimits {
  /** Braces and brackets that are open at once. */
  readonly depthMax: number;
  /** Tokens of one value. */
  readonly tokensMax: number;
  /** Bytes of the tokens of one value. */
  readonly bytesMax: number;
}

/** QEMU's. */
export const qemuLimits: JsonLimits = { depthMax: 1024, tokensMax: 2 * 1024 * 1024, bytesMax: 64 * 1024 * 1024 };

/** A value, or what is wrong with what took its place. */
export type JsonItem = { readonly value: JsonValue } | { readonly error: string };

export class JsonReader {
  readonly #lexer: JsonLexer;
  readonly #limits: JsonLimits;
  readonly #tokens: Token[] = [];
  #items: JsonItem[] = [];
  #bytes = 0;
  #braces = 0;
  #brackets = 0;

  constructor(limits: JsonLimits = qemuLimits) {
    this.#limits = limits;
    this.#lexer = new JsonLexer((token) => this.#add(token), limits.bytesMax);
  }

  /** What this chunk completes, in order. */
  feed(chunk: Uint8Array): JsonItem[] {
    this.#items = [];
    this.#lexer.feed(chunk);
    // Tokens of a value that goes on in a later chunk must not look into this one.
    for (let index = this.#kept; index < this.#tokens.length; index++) {
      const { kind, bytes } = this.#tokens[index];
      this.#tokens[index] = { kind, bytes: new Uint8Array(bytes) };
    }
    this.#kept = this.#tokens.length;
    return this.#items;
  }
  /** Tokens that have bytes of their own. */
  #kept = 0;

  /** Nothing that was fed waits for more. */
  get isIdle(): boolean {
    return this.#tokens.length === 0 && this.#lexer.isIdle;
  }

  #add(token: Token): void {
    this.#count(token);
    const { depthMax, tokensMax, bytesMax } = this.#limits;
    this.#bytes += token.bytes.length;
    if (this.#bytes > bytesMax) return this.#refuse("JSON token size limit exceeded");
    if (token.kind === "error") return this.#refuse(`JSON parse error, stray '${showBytes(token.bytes)}'`);
    if (this.#tokens.length + 1 > tokensMax) return this.#refuse("JSON token count limit exceeded");
    if (this.#braces + this.#brackets > depthMax) return this.#refuse("JSON nesting depth limit exceeded");
    this.#tokens.push(token);
    const open = this.#braces > 0 || this.#brackets > 0;
    if (open && this.#braces >= 0 && this.#brackets >= 0) return;
    this.#parse();
  }

  #count({ kind }: Token): void {
    if (kind === "{") this.#braces++;
    else if (kind === "}") this.#braces--;
    else if (kind === "[") this.#brackets++;
    else if (kind === "]") this.#brackets--;
  }

  #parse(): void {
    try {
      this.#items.push({ value: parseTokens(this.#tokens) });
    } catch (error) {
      if (!(error instanceof JsonSyntaxError)) throw error;
      this.#items.push({ error: error.message });
    }
    this.#reset();
  }

  #refuse(error: string): void {
    this.#items.push({ error });
    this.#reset();
  }

  #reset(): void {
    this.#tokens.length = 0;
    this.#kept = 0;
    this.#bytes = 0;
    this.#braces = 0;
    this.#brackets = 0;
  }
}
