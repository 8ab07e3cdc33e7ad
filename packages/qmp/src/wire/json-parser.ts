/** The tokens of one value to the value. Its depth was limited by whoever collected them. */
import type { Token } from "./json-lexer.ts";
import { JsonSyntaxError } from "./json-syntax-error.ts";
import { readString, showBytes } from "./json-text.ts";
import { type JsonObject, type JsonValue, readNumber } from "./json-value.ts";

const keywords: ReadonlyMap<string, JsonValue> = new Map([
  ["null", null],
  ["true", true],
  ["false", false],
]);

/** @throws JsonSyntaxError: the first fault */
export function parseTokens(tokens: readonly Token[]): JsonValue {
  return new Parser(tokens).value();
}

class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  value(): JsonValue {
    const token = this.#take();
    switch (token.kind) {
      case "{":
        return this.#object();
      case "[":
        return this.#list();
      case "string":
        return readString(token.bytes);
      case "number":
        return readNumber(Buffer.from(token.bytes).toString("latin1"));
      case "keyword":
        return keyword(Buffer.from(token.bytes).toString("latin1"));
      case "error":
        throw new JsonSyntaxError(`stray '${showBytes(token.bytes)}'`);
      default:
        throw new JsonSyntaxError("expecting value");
    }
  }

  #object(): JsonObject {
    const object: JsonObject = new Map();
    if (this.#skip("}")) return object;
    do {
      const name = this.value();
      if (typeof name !== "string") throw new JsonSyntaxError("key is not a string in object");
      if (!this.#skip(":")) throw new JsonSyntaxError("missing : in object pair");
      const value = this.value();
      if (object.has(name)) throw new JsonSyntaxError("duplicate key");
      object.set(name, value);
    } while (this.#skip(","));
    if (!this.#skip("}")) throw new JsonSyntaxError("expected separator in dict");
    return object;
  }

  #list(): JsonValue[] {
    const list: JsonValue[] = [];
    if (this.#skip("]")) return list;
    do list.push(this.value());
    while (this.#skip(","));
    if (!this.#skip("]")) throw new JsonSyntaxError("expected separator in list");
    return list;
  }

  #take(): Token {
    const token = this.#tokens.at(this.#next++);
    if (token === undefined) throw new JsonSyntaxError("premature EOI");
    return token;
  }

  #skip(kind: Token["kind"]): boolean {
    if (this.#tokens.at(this.#next)?.kind !== kind) return false;
    this.#next++;
    return true;
  }
}

function keyword(text: string): JsonValue {
  const value = keywords.get(text);
  if (value === undefined) throw new JsonSyntaxError(`invalid keyword '${text}'`);
  return value;
}
