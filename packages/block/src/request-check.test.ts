import { assertRequest, BlockError, checkRequest, EINVAL, EPERM, type RequestKind } from "@heirloom/block";
import fc from "fast-check";
import { expect, test } from "vitest";

const limits = { length: 10_000, alignment: 1, readOnly: false };
const changes: readonly RequestKind[] = ["write", "discard", "write-zeroes"];

test("ranges inside the node pass, up to its last byte and with length 0", () => {
  expect(checkRequest(limits, "read", 0, 10_000)).toBe(0);
  expect(checkRequest(limits, "write", 9_999, 1)).toBe(0);
  expect(checkRequest(limits, "status", 10_000, 0)).toBe(0);
});

test("what is no range of the node is EINVAL", () => {
  const bad = [
    [0, 10_001],
    [9_999, 2],
    [10_001, 0],
    [-1, 1],
    [0, -1],
    [0.5, 1],
    [0, 1.5],
    [Number.NaN, 1],
    [0, Number.POSITIVE_INFINITY],
    [2 ** 53, 1],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  ];
  for (const [offset, length] of bad) expect(checkRequest(limits, "write", offset, length)).toBe(EINVAL);
});

test("the check agrees with arithmetic on bigints", () => {
  const number = fc.oneof(fc.maxSafeNat(), fc.integer({ min: 0, max: 5000 }));
  fc.assert(
    fc.property(number, number, number, fc.constantFrom(1, 512, 4096), (length, offset, count, alignment) => {
      const inside = BigInt(offset) + BigInt(count) <= BigInt(length);
      const aligned = offset % alignment === 0 && count % alignment === 0;
      const answer = checkRequest({ length, alignment, readOnly: false }, "read", offset, count);
      expect(answer).toBe(inside && aligned ? 0 : EINVAL);
    }),
  );
});

test("a read-only node refuses changes with EPERM and nothing else", () => {
  const readOnly = { ...limits, readOnly: true };
  for (const kind of changes) expect(checkRequest(readOnly, kind, 0, 512)).toBe(EPERM);
  for (const kind of ["read", "flush", "status"] as const) expect(checkRequest(readOnly, kind, 0, 512)).toBe(0);
});

test("people are told which rule was broken", () => {
  const message = (kind: RequestKind, offset: number, length: number, given = limits): string => {
    try {
      assertRequest(given, kind, offset, length, "disk0");
    } catch (error) {
      expect(error).toBeInstanceOf(BlockError);
      expect(error).toMatchObject({ code: "ERR_REQUEST", node: "disk0", offset });
      return (error as BlockError).message;
    }
    return "";
  };
  expect(message("read", 0, 512)).toBe("");
  expect(message("write", 9_999, 2)).toBe(
    "write on 'disk0': offset 9999 and length 2 reach past the end of the node, which is 10000 bytes long",
  );
  expect(message("read", -1, 2)).toBe("read on 'disk0': offset must be an integer from 0 to 2^53-1, not -1");
  expect(message("read", 0, 0.5)).toBe("read on 'disk0': length must be an integer from 0 to 2^53-1, not 0.5");
  expect(message("discard", 1, 512, { ...limits, alignment: 512 })).toContain("must be multiples of 512");
  expect(message("write", 0, 1, { ...limits, readOnly: true })).toBe("write on 'disk0': the node is read-only");
});
