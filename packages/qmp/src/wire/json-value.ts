/**
 * What JSON is here. Two things that JavaScript's own JSON loses must survive, as ids are echoed and types are checked:
 * integers up to 64 bits, and whether a number was written as an integer at all.
 */

/** A number that was not written as an integer, or is one beyond 64 bits: QEMU keeps those as doubles, and so `1e3` is no integer. */
export class JsonDouble {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

/** As it was read. Objects are maps: `__proto__` is a name like others, and names that look like numbers keep their place. */
export type JsonValue = null | boolean | number | bigint | string | JsonDouble | JsonValue[] | JsonObject;
export type JsonObject = Map<string, JsonValue>;

/** What can be written: also plain objects, in which `undefined` stands for a member that is not there. */
export type Writable =
  | null
  | boolean
  | number
  | bigint
  | string
  | JsonDouble
  | readonly Writable[]
  | ReadonlyMap<string, Writable>
  | { readonly [name: string]: Writable | undefined };

/** And a sign. */
const int64Digits = 21;
const int64Min = -(2n ** 63n);
const uint64Max = 2n ** 64n - 1n;

/** From the text of a number token: a number if exact, a bigint if it needs 64 bits, else a double. */
export function readNumber(text: string): number | bigint | JsonDouble {
  if (/[.eE]/.test(text)) return new JsonDouble(Number(text));
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value === 0 ? 0 : value;
  // Somebody who sends megabytes of digits shall not keep us busy with them.
  if (text.length > int64Digits) return new JsonDouble(value);
  const exact = BigInt(text);
  return exact >= int64Min && exact <= uint64Max ? exact : new JsonDouble(value);
}
