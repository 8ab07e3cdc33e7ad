/**
 * A stream of JSON values, with the limits that keep a hostile client from our memory.
 *
 * Tokens are collected until brackets and braces, each counted by itself, are balanced or one of them closes too often;
 * then they are parsed. A fault drops what was collected, and reading goes on with the next token: what is left of a broken
 * object usually gives one more fault, as in QEMU. After a value that is too large it goes on with the next line.
 */
import { JsonLexer, type Token } from "./json-lexer.ts";
import { parseTokens } from "./json-parser.ts";
import { JsonSyntaxError } from "./json-syntax-error.ts";
import { showBytes } from "./json-text.ts";
import type { JsonValue } from "./json-value.ts";
import { TokenList } from "./token-list.ts";

export interface JsonLimits {
  /** Braces and brackets that are open at once. */
  readonly depthMax: number;
  /** Tokens of one value. */
  readonly tokensMax: number;
  /** Bytes of the tokens of one value. */
  readonly bytesMax: number;
}

/** QEMU's: for what comes from a server that somebody chose. */
const qemuLimits: JsonLimits = { depthMax: 1024, tokensMax: 2 * 1024 * 1024, bytesMax: 64 * 1024 * 1024 };

/**
 * For what comes from any client. A value is parsed in one go, and meanwhile nobody else is answered: at QEMU's limits that
 * would be seconds. A transaction of a thousand backups is well under these.
 */
export const monitorLimits: JsonLimits = { depthMax: 1024, tokensMax: 128 * 1024, bytesMax: 1024 * 1024 };

/** A value, or what is wrong with what took its place. */
export type JsonItem = { readonly value: JsonValue } | { readonly error: string };

export class JsonReader {
  readonly #lexer: JsonLexer;
  readonly #limits: JsonLimits;
  readonly #tokens = new TokenList();
  #items: JsonItem[] = [];
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
    return this.#items;
  }

  /** Nothing that was fed waits for more. */
  get isIdle(): boolean {
    return this.#tokens.length === 0 && this.#lexer.isIdle;
  }

  #add(token: Token): void {
    this.#count(token);
    const { depthMax, tokensMax, bytesMax } = this.#limits;
    if (this.#tokens.bytes + token.bytes.length > bytesMax) return this.#refuseLine("JSON token size limit exceeded");
    if (token.kind === "error") return this.#refuse(`JSON parse error, stray '${showBytes(token.bytes)}'`);
    if (this.#tokens.length + 1 > tokensMax) return this.#refuseLine("JSON token count limit exceeded");
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

  /** What is left of a value that is too large would be a fault for each token: megabytes of answers. */
  #refuseLine(error: string): void {
    this.#refuse(error);
    this.#lexer.skipLine();
  }

  #refuse(error: string): void {
    this.#items.push({ error });
    this.#reset();
  }

  #reset(): void {
    this.#tokens.clear();
    this.#braces = 0;
    this.#brackets = 0;
  }
}
