/** JSON as it was read, as plain objects and numbers: an integer beyond 2^53 loses digits. */
import { JsonDouble, type JsonValue } from "../wire/json-value.ts";

export function plain(value: JsonValue): unknown {
  if (value instanceof JsonDouble) return value.value;
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof Map)) return value;
  // `fromEntries` defines members, so a name like __proto__ is one like others.
  return Object.fromEntries([...value].map(([name, member]) => [name, plain(member)]));
}
