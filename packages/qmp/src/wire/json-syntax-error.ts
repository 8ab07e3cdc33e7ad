/** Bytes that are no JSON. The message is what a client is told. */
export class JsonSyntaxError extends Error {
  override readonly name: string = "JsonSyntaxError";
  constructor(what: string) {
    super(`JSON parse error, ${what}`);
  }
}
