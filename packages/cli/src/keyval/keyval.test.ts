import fc from "fast-check";
import { expect, test } from "vitest";
import { readKeyval } from "./keyval.ts";

test("dots nest, numbers make lists, an implied key takes the first word", () => {
  expect(readKeyval("nbd,id=e,bitmaps.0=a,bitmaps.1.node=n,bitmaps.1.name=b", "type")).toEqual(
    new Map<string, unknown>([
      ["type", "nbd"],
      ["id", "e"],
      [
        "bitmaps",
        [
          "a",
          new Map([
            ["node", "n"],
            ["name", "b"],
          ]),
        ],
      ],
    ]),
  );
});

test("whatever a value is, doubling its commas brings it through", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (one, other) => {
      const text = `a=${one.replaceAll(",", ",,")},b.c=${other.replaceAll(",", ",,")}`;
      expect(readKeyval(text)).toEqual(
        new Map<string, unknown>([
          ["a", one],
          ["b", new Map([["c", other]])],
        ]),
      );
    }),
  );
});
