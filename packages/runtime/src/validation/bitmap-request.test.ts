import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  checkBitmapAdd,
  checkMerge,
  defaultGranularity,
  findBitmap,
  isGranularity,
  smallestGranularity,
} from "./bitmap-request.ts";
import type { BitmapAddRequest } from "./bitmap-request.ts";
import type { BitmapFacts, Facts, NodeFacts } from "./facts.ts";
import { isIdentifier, refuseExportId, refuseJobId, refuseNodeName, refuseObjectId } from "./identifier.ts";
import type { Checked } from "../errors.ts";

function bitmap(name: string, size = 1048576): BitmapFacts {
  return { name, granularity: 65536, size, busy: false, readonly: false, inconsistent: false };
}

function node(name: string, facts: Partial<NodeFacts> = {}, bitmaps: readonly BitmapFacts[] = []): NodeFacts {
  return {
    name,
    length: 1048576,
    clusterSize: 0,
    readOnly: false,
    identity: name,
    compression: false,
    bitmap: (wanted) => bitmaps.find((each) => each.name === wanted),
    storeRefusal: () => undefined,
    ...facts,
  };
}

function world(...nodes: readonly NodeFacts[]): Pick<Facts, "node"> {
  return { node: (name) => nodes.find((each) => each.name === name) };
}

function desc(checked: Checked<unknown>): string {
  return checked.ok ? "accepted" : checked.refusal.desc;
}

const add = (request: Partial<BitmapAddRequest>, facts = world(node("a", {}, [bitmap("daily")]))): Checked<unknown> =>
  checkBitmapAdd({ node: "a", name: "b", ...request }, facts);

describe("adding a bitmap", () => {
  test("is complete afterwards", () => {
    expect(add({})).toEqual({
      ok: true,
      value: { node: "a", name: "b", granularity: 65536, persistent: false, recording: true, size: 1048576 },
    });
    expect(add({ disabled: true, persistent: true, granularity: 512 })).toMatchObject({
      value: { recording: false, persistent: true, granularity: 512 },
    });
  });

  const long = "n".repeat(1024);
  const name = "x".repeat(1023);
  const qcow2v2 = world(node("a", { storeRefusal: () => "Cannot store dirty bitmaps in qcow2 v2 files" }));
  test.each<readonly [string, Partial<BitmapAddRequest>, string]>([
    ["no such node", { node: "x" }, "Cannot find device='x' nor node-name='x'"],
    ["an empty name", { name: "" }, "Bitmap name cannot be empty"],
    ["a name of 1024 bytes", { name: long }, `Bitmap name too long: ${long}`],
    ["a name of 1023 bytes", { name }, "accepted"],
    ["a name of 342 characters and 1026 bytes", { name: "€".repeat(342) }, `Bitmap name too long: ${"€".repeat(342)}`],
    ["a name with everything but NUL", { name: "a/b %\n\u0001ü" }, "accepted"],
    ["a name with NUL", { name: "a\0b" }, "Bitmap name cannot contain a NUL character"],
    ["a name with half a surrogate pair", { name: "a\ud800" }, "Bitmap name must be text that UTF-8 can encode"],
    [
      "a persistent name of 1024 bytes",
      { name: long, persistent: true },
      `Can't make bitmap '${long}' persistent in 'a': Name length exceeds maximum (1023 characters)`,
    ],
    ["a name that is taken", { name: "daily" }, "Bitmap already exists: daily"],
    ["granularity 0", { granularity: 0 }, "Granularity must be power of 2 and at least 512"],
    ["granularity 256", { granularity: 256 }, "Granularity must be power of 2 and at least 512"],
    ["granularity 65537", { granularity: 65537 }, "Granularity must be power of 2 and at least 512"],
    ["granularity 2^31", { granularity: 2 ** 31 }, "accepted"],
    ["granularity 2^32", { granularity: 2 ** 32 }, "Granularity must be a power of 2 and at most 2147483648"],
    ["a bad name before a bad granularity", { name: "", granularity: 1 }, "Bitmap name cannot be empty"],
    [
      "a bad granularity before a taken name",
      { name: "daily", granularity: 1 },
      "Granularity must be power of 2 and at least 512",
    ],
  ])("%s", (_case, request, expected) => {
    expect(desc(add(request))).toBe(expected);
  });

  test("a node that cannot store it refuses a persistent one only", () => {
    expect(desc(add({ persistent: true }, qcow2v2))).toBe(
      "Can't make bitmap 'b' persistent in 'a': Cannot store dirty bitmaps in qcow2 v2 files",
    );
    expect(desc(add({}, qcow2v2))).toBe("accepted");
  });

  test("arguments of the wrong type are named, not coerced", () => {
    const wrong = (request: Record<string, unknown>): string => desc(add(request));
    expect(wrong({ granularity: "64k" })).toBe("Invalid parameter type for 'granularity', expected: integer");
    expect(wrong({ name: 5 })).toBe("Invalid parameter type for 'name', expected: string");
    expect(wrong({ persistent: "on" })).toBe("Invalid parameter type for 'persistent', expected: boolean");
  });

  test("a disk with more granules than a bitmap can have bits is told the granularity that fits", () => {
    const huge = world(node("a", { length: 2 ** 53 - 512 }));
    expect(add({ granularity: 512 }, huge)).toMatchObject({
      refusal: { code: "ERR_BITMAP_TOO_LARGE", fields: { fits: 65536 } },
    });
    expect(desc(add({ granularity: 65536 }, huge))).toBe("accepted");
  });

  test.each([
    [0, 65536],
    [512, 4096],
    [4096, 4096],
    [16384, 16384],
    [65536, 65536],
    [2097152, 65536],
  ])("a cluster size of %d gives a granularity of %d", (clusterSize, granularity) => {
    expect(defaultGranularity(clusterSize)).toBe(granularity);
  });

  test("a granularity is one of the 23 powers of two from 512 to 2^31", () => {
    const valid = new Set(Array.from({ length: 23 }, (_, index) => 512 * 2 ** index));
    fc.assert(
      fc.property(fc.oneof(fc.integer(), fc.double(), fc.constantFrom(...valid)), (bytes) => {
        expect(isGranularity(bytes)).toBe(valid.has(bytes));
      }),
    );
  });

  test("the smallest granularity fits, and half of it does not", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (size) => {
        const granularity = smallestGranularity(size);
        expect(Math.ceil(size / granularity)).toBeLessThanOrEqual(2 ** 37);
        if (granularity > 512) expect(Math.ceil(size / (granularity / 2))).toBeGreaterThan(2 ** 37);
      }),
    );
  });
});

describe("looking up and merging", () => {
  const facts = world(
    node("a", {}, [bitmap("daily"), bitmap("hourly")]),
    node("c", {}, [bitmap("daily"), bitmap("small", 512)]),
  );

  test("a missing node and a missing bitmap are named", () => {
    expect(desc(findBitmap(facts, "x", "daily"))).toBe("Node 'x' not found");
    expect(desc(findBitmap(facts, "a", "weekly"))).toBe("Dirty bitmap 'weekly' not found");
    expect(findBitmap(facts, "a", "daily")).toMatchObject({ ok: true, value: { name: "daily" } });
  });

  test("sources are bitmaps of the target's node by name, of any node by reference, the target itself, or none", () => {
    expect(
      checkMerge({ node: "a", target: "daily", sources: ["hourly", { node: "c", name: "daily" }, "daily"] }, facts),
    ).toEqual({
      ok: true,
      value: {
        node: "a",
        target: "daily",
        sources: [
          { node: "a", name: "hourly" },
          { node: "c", name: "daily" },
          { node: "a", name: "daily" },
        ],
      },
    });
    expect(checkMerge({ node: "a", target: "daily", sources: [] }, facts)).toMatchObject({ ok: true });
  });

  test("the first source that is missing or of another size refuses all", () => {
    const merge = (...sources: Parameters<typeof checkMerge>[0]["sources"][number][]): string =>
      desc(checkMerge({ node: "a", target: "daily", sources }, facts));
    expect(merge("hourly", "weekly")).toBe("Dirty bitmap 'weekly' not found");
    expect(merge({ node: "x", name: "daily" })).toBe("Node 'x' not found");
    expect(merge({ node: "c", name: "small" })).toBe(
      "Bitmaps are of different sizes (destination size is 1048576, source size is 512) and can't be merged",
    );
    expect(desc(checkMerge({ node: "a", target: "nope", sources: [] }, facts))).toBe("Dirty bitmap 'nope' not found");
  });
});

describe("identifiers", () => {
  test.each(["a", "A", "job0", "a.b-c_d", "x".repeat(1000)])("%s", (id) => {
    expect(isIdentifier(id)).toBe(true);
  });

  test.each(["", "0a", "#block1", "a b", "a/b", "ü", "-a", "a\n", ".a"])("not %j", (id) => {
    expect(isIdentifier(id)).toBe(false);
    expect(refuseJobId(id, () => false)?.desc).toBe(`Invalid job ID '${id}'`);
    expect(refuseNodeName(id, () => false)?.desc).toBe(`Invalid node-name: '${id}'`);
    expect(refuseExportId(id)?.desc).toBe("Invalid block export id");
    expect(refuseObjectId(id)?.desc).toBe("Parameter 'id' expects an identifier");
  });

  test("names that are taken or too long", () => {
    const never = (): boolean => false;
    const always = (): boolean => true;
    expect(refuseJobId("j", always)?.desc).toBe("Job ID 'j' already in use");
    expect(refuseNodeName("n", always)?.desc).toBe("Duplicate nodes with node-name='n'");
    expect(refuseNodeName("n".repeat(31), never)).toBeUndefined();
    expect(refuseNodeName("n".repeat(32), never)?.desc).toBe("Node name too long");
    expect([refuseJobId("j", never), refuseExportId("e"), refuseObjectId("o")]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
});
