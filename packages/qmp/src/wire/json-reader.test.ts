import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type JsonItem, JsonReader } from "./json-reader.ts";
import { JsonDouble, type Writable } from "./json-value.ts";
import { formatDouble, writeJson } from "./json-writer.ts";

function read(reader: JsonReader, text: string): JsonItem[] {
  return reader.feed(Buffer.from(text));
}

const limits = { depthMax: 3, tokensMax: 10, bytesMax: 100 };

describe("limits", () => {
  test("a value that is too deep is refused, and what follows is read anew", () => {
    const reader = new JsonReader(limits);
    expect(read(reader, '[[[]]] {"a":{"b":{}}}')).toEqual([
      { value: [[[]]] },
      { value: new Map([["a", new Map([["b", new Map()]])]]) },
    ]);
    expect(read(reader, "[[[[")).toEqual([{ error: "JSON nesting depth limit exceeded" }]);
    expect(read(reader, "[]")).toEqual([{ value: [] }]);
  });

  test("ten tokens pass, eleven do not", () => {
    const reader = new JsonReader(limits);
    expect(read(reader, "[1,2,3,4 ,'']\n".replace(" ,''", ""))).toEqual([{ value: [1, 2, 3, 4] }]);
    expect(read(reader, "[1,2,3,4,[")).toEqual([]);
    expect(read(reader, "],1,2,3\n")).toEqual([{ error: "JSON token count limit exceeded" }]);
  });

  test("tokens of a hundred bytes pass, of a hundred and one do not", () => {
    const reader = new JsonReader(limits);
    expect(read(reader, `"${"x".repeat(98)}"`)).toEqual([{ value: "x".repeat(98) }]);
    expect(read(reader, `"${"x".repeat(99)}"\n`)).toEqual([{ error: "JSON token size limit exceeded" }]);
    expect(read(reader, `["${"x".repeat(98)}"] what is left of the line\n[]`)).toEqual([
      { error: "JSON token size limit exceeded" },
      { value: [] },
    ]);
  });

  test("a string that never ends is refused when it is too long, and its rest is skipped", () => {
    const reader = new JsonReader(limits);
    const items: JsonItem[] = [read(reader, '"')].flat();
    for (let piece = 0; piece < 100; piece++) items.push(...read(reader, "x".repeat(10)));
    expect(items).toEqual([{ error: "JSON token size limit exceeded" }]);
    expect(read(reader, "\n[]")).toEqual([{ value: [] }]);
  });
});

test("integers of 64 bits are kept exactly, others become doubles", () => {
  const items = read(
    new JsonReader(),
    "[9007199254740993, 18446744073709551615, -9223372036854775808, 18446744073709551616, 1.0]",
  );
  expect(items).toEqual([
    {
      value: [
        9007199254740993n,
        18446744073709551615n,
        -9223372036854775808n,
        new JsonDouble(18446744073709551616),
        new JsonDouble(1),
      ],
    },
  ]);
});

test("a chunk may be used again by whoever read it: values do not look into it afterwards", () => {
  const reader = new JsonReader();
  const chunk = Buffer.from('{"first":"kept","second":"cu');
  expect(reader.feed(chunk)).toEqual([]);
  chunk.fill(0x58);
  expect(read(reader, 't"}')).toEqual([
    {
      value: new Map([
        ["first", "kept"],
        ["second", "cut"],
      ]),
    },
  ]);
});

const json = fc.letrec<{ value: Writable }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: "grapheme" }),
    fc.array(tie("value"), { maxLength: 5 }),
    fc.dictionary(fc.string(), tie("value"), { maxKeys: 5 }),
  ),
})).value;

test("what is written is read as it was, by us in any pieces and by JSON.parse", () => {
  fc.assert(
    fc.property(
      json,
      fc.boolean(),
      fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1 }),
      (value, pretty, cuts) => {
        const text = writeJson(value, pretty);
        // eslint-disable-next-line no-control-regex
        expect(text).toMatch(/^[\n -~]*$/);
        const reader = new JsonReader();
        const bytes = Buffer.from(`${text}\n`);
        const items: JsonItem[] = [];
        for (let at = 0, cut = 0; at < bytes.length; cut++) {
          const end = at + cuts[cut % cuts.length];
          items.push(...reader.feed(bytes.subarray(at, end)));
          at = end;
        }
        expect(items).toHaveLength(1);
        const [item] = items;
        // Names that share a bucket change places each time, in QEMU as well.
        expect("value" in item ? JSON.parse(writeJson(item.value, pretty)) : item.error).toEqual(JSON.parse(text));
        expect(JSON.parse(text)).toEqual(asParsed(value));
      },
    ),
  );
});

/** What JSON.parse makes of it: bigints lose digits, -0 of an integer is 0. */
function asParsed(value: Writable): unknown {
  return JSON.parse(
    JSON.stringify(value, (_key, member: unknown) => (typeof member === "bigint" ? Number(member) : member)),
    (_key, member: unknown) => member,
  );
}

test("any bytes are read to the end, one by one as at once", () => {
  const shown = (items: readonly JsonItem[]): string =>
    items.map((item) => ("value" in item ? writeJson(item.value) : item.error)).join("\n");
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const whole = new JsonReader().feed(bytes);
      const reader = new JsonReader();
      const single = [...bytes].flatMap((byte) => reader.feed(Uint8Array.of(byte)));
      expect(shown(single)).toBe(shown(whole));
    }),
  );
});

// From `printf "%.17g"`.
test.each([
  [0.1, "0.10000000000000001"],
  [1e16, "10000000000000000"],
  [1e17, "1e+17"],
  [123456.789, "123456.789"],
  [1e-5, "1.0000000000000001e-05"],
  [0.0001, "0.0001"],
  [-0, "-0"],
  [4.9e-324, "4.9406564584124654e-324"],
  [1.7976931348623157e308, "1.7976931348623157e+308"],
  [Infinity, "inf"],
])("%d is written as C writes it", (value, text) => {
  expect(formatDouble(value)).toBe(text);
});
