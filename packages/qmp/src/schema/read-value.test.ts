import { expect, test } from "vitest";
import { commands } from "../table/command-table.ts";
import { JsonReader } from "../wire/json-reader.ts";
import type { JsonObject } from "../wire/json-value.ts";
import { readArguments } from "./read-value.ts";

function argumentsOf(command: string, text: string): Record<string, unknown> {
  const [item] = new JsonReader().feed(Buffer.from(text));
  if (!("value" in item)) throw new Error(item.error);
  return readArguments(commands[command].arguments, item.value as JsonObject);
}

test("arguments become plain objects, in the members' own names", () => {
  expect(
    argumentsOf(
      "transaction",
      '{"actions":[{"type":"block-dirty-bitmap-merge","data":{"node":"n","target":"t","bitmaps":["a",{"node":"m","name":"b"}]}}]}',
    ),
  ).toEqual({
    actions: [
      {
        type: "block-dirty-bitmap-merge",
        data: { node: "n", target: "t", bitmaps: ["a", { node: "m", name: "b" }] },
      },
    ],
  });
});

test("a name like __proto__ is a member like others: unexpected", () => {
  expect(() => argumentsOf("block-dirty-bitmap-remove", '{"node":"n","name":"b","__proto__":1}')).toThrow(
    "Parameter '__proto__' is unexpected",
  );
});

test("the largest integers are taken where they fit, and only there", () => {
  expect(argumentsOf("block_resize", '{"size":9223372036854775807}').size).toBe(2 ** 63);
  expect(() => argumentsOf("block_resize", '{"size":9223372036854775808}')).toThrow(
    "Invalid parameter type for 'size', expected: integer",
  );
  expect(argumentsOf("block-dirty-bitmap-add", '{"node":"n","name":"b","granularity":4294967295}').granularity).toBe(
    4294967295,
  );
});
