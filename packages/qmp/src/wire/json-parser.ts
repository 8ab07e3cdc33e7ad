/** The tokens of one value to the value. Its depth was limited by whoever collected them. */
import { JsonSyntaxError } from "./json-syntax-error.ts";
import { readString, showBytes } from "./json-text.ts";
import { type JsonObject, type JsonValue, readNumber } from "./json-value.ts";
import type { TokenList } from "./token-list.ts";

const keywords: ReadonlyMap<string, JsonValue> = new Map([
  ["null", null],
  ["true", true],
  ["false", false],
]);

/** @throws JsonSyntaxError: the first fault */
export function parseTokens(tokens: TokenList): JsonValue {
  return new Parser(tokens).value();
}

class Parser {
  readonly #tokens: TokenList;
  #next = 0;

  constructor(tokens: TokenList) {
    this.#tokens = tokens;
  }

  value(): JsonValue {
    const index = this.#next++;
    const text = (): Uint8Array => this.#tokens.text(index);
    switch (this.#tokens.kind(index)) {
      case "{":
        return this.#object();
      case "[":
        return this.#list();
      case "string":
        return readString(text());
      case "number":
        return readNumber(latin1(text()));
      case "keyword":
        return keyword(latin1(text()));
      case "error":
        throw new JsonSyntaxError(`stray '${showBytes(text())}'`);
      case undefined:
        throw new JsonSyntaxError("premature EOI");
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

  #skip(kind: "}" | "]" | ":" | ","): boolean {
    if (this.#tokens.kind(this.#next) !== kind) return false;
    this.#next++;
    return true;
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

function keyword(text: string): JsonValue {
  const value = keywords.get(text);
  if (value === undefined) throw new JsonSyntaxError(`invalid keyword '${text}'`);
  return value;
}
