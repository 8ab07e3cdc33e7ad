import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { needTool } from "./tool.fixture.ts";
import { readArtefact, rebuild } from "@heirloom/runtime";

interface Extent {
  offset: number;
  length: number;
  kind: "data" | "zero";
}
const length = 1_000_000;
const ids = [randomUUID(), randomUUID(), randomUUID()];
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "heirloom-rebuild-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const file = (name: string): string => join(directory, name);

/** Writes an artefact whose data bytes are `fill`; the rest of its raw file is 0xee, which must never be looked at. */
function put(index: number, extents: Extent[], fields: Record<string, unknown> = {}): string {
  const raw = Buffer.alloc(length, 0xee);
  for (const { offset, length: bytes } of extents) raw.fill(index + 1, offset, offset + bytes);
  writeFileSync(file(`${index}.raw`), raw);
  const map = {
    format: "heirloom-artefact",
    version: 1,
    id: ids[index],
    basedOn: index === 0 ? null : ids[index - 1],
    length,
    clusterSize: 65_536,
    time: "2026-01-02T03:04:05.678Z",
    sync: "full",
    bitmap: null,
    why: "a test",
    complete: true,
    extents,
    ...fields,
  };
  writeFileSync(file(`${index}.json`), JSON.stringify(map));
  return file(`${index}.json`);
}
const all: Extent[] = [{ offset: 0, length, kind: "data" }];
const some: Extent[] = [{ offset: 5000, length: 100, kind: "data" }];

test("the newest artefact that has a byte gives it", async () => {
  const cut = fc.uniqueArray(fc.integer({ min: 0, max: length }), { minLength: 0, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(cut, cut, fc.boolean(), async (first, second, startsWithZero) => {
      const expected = Buffer.alloc(length, 1);
      const chain = [put(0, all)];
      for (const [at, cuts] of [first, second].entries()) {
        const extents: Extent[] = [];
        const ascending = [...cuts].sort((a, b) => a - b);
        for (let index = 0; index + 1 < ascending.length; index += 2) {
          const kind = (index % 4 === 0) === startsWithZero ? "zero" : "data";
          const [offset, end] = [ascending[index], ascending[index + 1]];
          extents.push({ offset, length: end - offset, kind });
          expected.fill(kind === "zero" ? 0 : at + 2, offset, end);
        }
        chain.push(put(at + 1, extents));
      }
      await rebuild(chain, file("image"), { overwrite: true });
      expect(readFileSync(file("image")).equals(expected)).toBe(true);
    }),
    { numRuns: 40 },
  );
});

test("zeroes are holes of the image", async () => {
  const extents: Extent[] = [
    { offset: 0, length: 65_536, kind: "data" },
    { offset: 65_536, length: length - 65_536, kind: "zero" },
  ];
  const { data } = await rebuild([put(0, extents)], file("image"));
  expect(data).toBe(65_536);
  expect(statSync(file("image")).blocks * 512).toBeLessThanOrEqual(65_536 + 4096);
});

test("an image that exists is replaced only on request", async () => {
  writeFileSync(file("image"), "mine");
  const chain = [put(0, all)];
  await expect(rebuild(chain, file("image"))).rejects.toMatchObject({ code: "ERR_REBUILD_TARGET" });
  expect(readFileSync(file("image"), "utf8")).toBe("mine");
  await rebuild(chain, file("image"), { overwrite: true });
  expect(statSync(file("image")).size).toBe(length);
});

test("a rebuild that is aborted leaves no file", async () => {
  const controller = new AbortController();
  const onProgress = (): void => controller.abort();
  await expect(rebuild([put(0, all)], file("image"), { signal: controller.signal, onProgress })).rejects.toThrow(
    "abort",
  );
  expect(readdirSync(directory).sort()).toEqual(["0.json", "0.raw"]);
});

describe("a chain that is none is refused, and nothing is written:", () => {
  const cases: Record<string, [() => string[], string, string]> = {
    "no artefact": [() => [], "ERR_ARTEFACT_CHAIN", "at least one"],
    "a missing full backup": [() => [put(1, some)], "ERR_ARTEFACT_CHAIN", ids[0]],
    "a missing link": [() => [put(0, all), put(2, some)], "ERR_ARTEFACT_CHAIN", ids[1]],
    "a swapped chain": [() => [put(0, all), put(2, some), put(1, some)], "ERR_ARTEFACT_CHAIN", ids[0]],
    "an incremental before its full backup": [
      () => [put(1, some), put(0, all)],
      "ERR_ARTEFACT_CHAIN",
      "full backup first",
    ],
    "two full backups": [() => [put(0, all), put(1, all, { basedOn: null })], "ERR_ARTEFACT_CHAIN", "is a full backup"],
    "a full backup that does not cover the disk": [() => [put(0, some)], "ERR_ARTEFACT_CHAIN", "byte at 0"],
    "what a failed backup left as the last": [
      () => [put(0, all), put(1, some, { complete: false })],
      "ERR_ARTEFACT_CHAIN",
      "failed backup",
    ],
    "disks of two lengths": [
      () => {
        const chain = [put(0, all), put(1, some, { length: length - 1 })];
        truncateSync(file("1.raw"), length - 1);
        return chain;
      },
      "ERR_ARTEFACT_LENGTH",
      `${length} bytes`,
    ],
    "a truncated raw file": [
      () => {
        const chain = [put(0, all)];
        truncateSync(file("0.raw"), length - 1);
        return chain;
      },
      "ERR_ARTEFACT_RAW",
      `${length} bytes, but has ${length - 1}`,
    ],
  };
  for (const [name, [make, code, says]] of Object.entries(cases)) {
    test(name, async () => {
      const refused: unknown = await rebuild(make(), file("image")).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code, message: expect.stringContaining(says) as string });
      expect(readdirSync(directory).filter((entry) => entry.includes("image"))).toEqual([]);
    });
  }
});

describe("a map is checked before it is believed:", () => {
  const overlapping = [
    { offset: 0, length: 10, kind: "data" },
    { offset: 9, length: 10, kind: "data" },
  ];
  const cases: Record<string, [Record<string, unknown>, string, string]> = {
    "another format": [{ format: "tar" }, "ERR_ARTEFACT_FORMAT", "heirloom-artefact"],
    "a future version": [{ version: 2 }, "ERR_ARTEFACT_VERSION", "expected format version 1, but the map has 2"],
    "an id that is none": [{ id: "../../etc" }, "ERR_ARTEFACT_FORMAT", "a UUID"],
    "a length that is a string": [{ length: "1000000" }, "ERR_ARTEFACT_FORMAT", "an integer"],
    "a length beyond 2^53": [{ length: 2 ** 53 }, "ERR_ARTEFACT_FORMAT", "an integer"],
    "a negative length": [{ length: -1 }, "ERR_ARTEFACT_FORMAT", "at least 0"],
    "a cluster size that is no power of two": [{ clusterSize: 65_535 }, "ERR_ARTEFACT_FORMAT", "power of two"],
    "a time that is none": [{ time: "yesterday" }, "ERR_ARTEFACT_FORMAT", "ISO 8601"],
    "extents that are no list": [{ extents: { length: 1e9 } }, "ERR_ARTEFACT_FORMAT", "must be a list"],
    "an extent that is no object": [{ extents: [null] }, "ERR_ARTEFACT_FORMAT", "extent 0 must be an object"],
    "an extent of an unknown kind": [
      { extents: [{ offset: 0, length: 1, kind: "hole" }] },
      "ERR_ARTEFACT_FORMAT",
      "'kind' of extent 0",
    ],
    "an empty extent": [
      { extents: [{ offset: 0, length: 0, kind: "data" }] },
      "ERR_ARTEFACT_FORMAT",
      "'length' of extent 0",
    ],
    "overlapping extents": [{ extents: overlapping }, "ERR_ARTEFACT_EXTENTS", "extent 1 must begin at 10"],
    "extents out of order": [
      { extents: overlapping.toReversed() },
      "ERR_ARTEFACT_EXTENTS",
      "extent 1 must begin at 19",
    ],
    "an extent beyond the disk": [
      { extents: [{ offset: 999_999, length: 2, kind: "data" }] },
      "ERR_ARTEFACT_EXTENTS",
      "within the disk's",
    ],
  };
  for (const [name, [fields, code, says]] of Object.entries(cases)) {
    test(name, async () => {
      const refused: unknown = await readArtefact(put(0, all, fields)).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code, message: expect.stringContaining(says) as string });
      expect((refused as Error).message).toMatch(/^artefact '.*0\.json': /);
    });
  }

  test("text that is no JSON, however deep", async () => {
    for (const text of ["", "{", "\0\0", "[".repeat(1_000_000)]) {
      const path = put(0, all);
      writeFileSync(path, text);
      await expect(readArtefact(path)).rejects.toMatchObject({ code: "ERR_ARTEFACT_FORMAT" });
    }
    writeFileSync(put(0, all), "[]".padStart(2, " "));
    await expect(readArtefact(file("0.json"))).rejects.toMatchObject({ code: "ERR_ARTEFACT_FORMAT" });
  });

  test("files that are missing, or no files", async () => {
    await expect(readArtefact(file("none.json"))).rejects.toMatchObject({ code: "ERR_ARTEFACT_READ" });
    await expect(readArtefact(file("none.map"))).rejects.toMatchObject({ code: "ERR_ARTEFACT_NAME" });
    const path = put(0, all);
    rmSync(file("0.raw"));
    await expect(readArtefact(path)).rejects.toMatchObject({ code: "ERR_ARTEFACT_RAW" });
    mkdirSync(file("0.raw"));
    await expect(readArtefact(path)).rejects.toMatchObject({ code: "ERR_ARTEFACT_RAW" });
    rmSync(file("0.raw"), { recursive: true });
    execFileSync("mkfifo", [file("0.raw")]); // must not hang
    await expect(readArtefact(path)).rejects.toMatchObject({ code: "ERR_ARTEFACT_RAW" });
  });
});

test("a file of the chain is never replaced by the image, whatever it is called", async () => {
  const chain = [put(0, all), put(1, some)];
  symlinkSync("1.raw", file("other"));
  for (const name of ["0.json", "0.raw", "1.json", "1.raw", "other"]) {
    const before = readFileSync(file(name));
    await expect(rebuild(chain, file(name), { overwrite: true }), name).rejects.toMatchObject({
      code: "ERR_REBUILD_TARGET",
      message: expect.stringContaining("which is a file of the artefact") as string,
    });
    expect(readFileSync(file(name)).equals(before)).toBe(true);
  }
});

test("an image that exists is found before anything is copied", async () => {
  writeFileSync(file("image"), "mine");
  const onProgress = (): void => expect.fail("it copies");
  await expect(rebuild([put(0, all)], file("image"), { onProgress })).rejects.toMatchObject({
    code: "ERR_REBUILD_TARGET",
  });
});

test.each([["0.json"], undefined, [undefined], [{ path: 5 }]].map((chain) => [JSON.stringify(chain), chain]))(
  "what is no list of artefacts is refused in a sentence: %s",
  async (_text, chain) => {
    const given = (Array.isArray(chain) && chain[0] === "0.json" ? "0.json" : chain) as string[];
    await expect(rebuild(given, file("image"))).rejects.toMatchObject({
      code: "ERR_ARTEFACT_CHAIN",
      message: "rebuild: expected a list of artefacts, or of the paths of their maps",
    });
  },
);

test("a file system without hard links takes an image, and none over one that is there", (context) => {
  needTool(context, "strace");
  const program = `
    import(process.argv[1]).then(async ({ rebuild }) => {
      const told = await rebuild([process.argv[2]], process.argv[3]).then(({ length }) => length, ({ code }) => code);
      process.stdout.write(String(told));
    });`;
  const rebuildOnce = (): string => {
    const refuses = ["-f", "-o", "/dev/null", "-e", "trace=link,linkat", "-e", "inject=link,linkat:error=EPERM"];
    const node = [
      process.execPath,
      "-e",
      program,
      import.meta.resolve("@heirloom/runtime"),
      put(0, all),
      file("image"),
    ];
    return execFileSync("strace", [...refuses, ...node], { encoding: "utf8" });
  };
  expect(rebuildOnce()).toBe(String(length));
  expect(readFileSync(file("image")).equals(Buffer.alloc(length, 1))).toBe(true);
  expect(rebuildOnce()).toBe("ERR_REBUILD_TARGET");
});
