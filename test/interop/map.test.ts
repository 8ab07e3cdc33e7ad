/** What is where: allocation and dirty bitmaps, as nbdinfo and qemu-img map them, against extents that the test laid out. */
import { describe, expect, test } from "vitest";
import { granularity, Interop, KiB, MiB, noise, run } from "./interop.fixture.ts";
import { serversAndCommand as servers } from "./servers.fixture.ts";

interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

/** Neighbours of one type joined: a server may split as it likes. */
function joined(extents: readonly Extent[]): Extent[] {
  const result: Extent[] = [];
  for (const { offset, length, type } of extents) {
    const last = result.at(-1);
    if (last?.type === type && last.offset + last.length === offset)
      result[result.length - 1] = { ...last, length: last.length + length };
    else result.push({ offset, length, type });
  }
  return result;
}

/** The bytes that have the type, as [offset, length]. */
function having(extents: readonly Extent[], wanted: (type: number) => boolean): Array<[number, number]> {
  const marked = joined(extents.map((extent) => ({ ...extent, type: wanted(extent.type) ? 1 : 0 })));
  return marked.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]);
}

async function nbdMap(uri: string, context = "base:allocation"): Promise<Extent[]> {
  return JSON.parse(await run("nbdinfo", ["--json", `--map=${context}`, uri])) as Extent[];
}

/** qemu-img's map of the same; a bitmap takes the place of the allocation, dirty being what has no data. */
async function qemuMap(
  uri: string,
  bitmap?: string,
): Promise<Array<{ start: number; length: number; data: boolean; zero: boolean }>> {
  const { pathname, searchParams } = new URL(uri);
  const options = [
    "driver=nbd",
    "server.type=unix",
    `server.path=${searchParams.get("socket") ?? ""}`,
    `export=${pathname.slice(1)}`,
    ...(bitmap === undefined ? [] : [`x-dirty-bitmap=qemu:dirty-bitmap:${bitmap}`]),
  ];
  return JSON.parse(await run("qemu-img", ["map", "--output=json", "--image-opts", options.join(",")])) as never;
}

/** 8 MiB, of which these are data; each a multiple of any file system's block. */
const data: ReadonlyArray<[number, number]> = [
  [0, 64 * KiB],
  [MiB, 256 * KiB],
  [5 * MiB - 64 * KiB, 128 * KiB],
  [8 * MiB - 64 * KiB, 64 * KiB],
];

function sparse(): Buffer {
  const content = Buffer.alloc(8 * MiB);
  data.forEach(([offset, length], index) => noise(length, index).copy(content, offset));
  return content;
}

describe.for(servers)("$name maps its export", (server) => {
  test("nbdinfo --map: data where data was written, holes that read as zeroes elsewhere, to the end", async (context) => {
    const { uri } = await Interop.open(context, server, ["nbdinfo"], sparse());
    const extents = await nbdMap(uri);
    expect(having(extents, (type) => type === 0)).toEqual(data);
    expect(having(extents, (type) => type === 3).length).toBe(3);
    expect(joined(extents.map((extent) => ({ ...extent, type: 0 })))).toEqual([
      { offset: 0, length: 8 * MiB, type: 0 },
    ]);
    const totals = await run("nbdinfo", ["--map", "--totals", uri]);
    expect(totals).toMatch(new RegExp(`^\\s*${512 * KiB}\\s+6\\.2% +0 data$`, "m"));
  });

  test("qemu-img map says the same", async (context) => {
    const { uri } = await Interop.open(context, server, ["qemu-img"], sparse());
    const extents = (await qemuMap(uri)).map((each) => ({
      offset: each.start,
      length: each.length,
      type: each.data ? 0 : 3,
    }));
    expect(having(extents, (type) => type === 0)).toEqual(data);
  });

  test("what is written, zeroed and discarded moves the map", async (context) => {
    const { uri } = await Interop.open(context, server, ["nbdinfo", "qemu-io"], sparse());
    const commands = ["write -P 9 3M 64k", "write -z -u 1M 128k", `discard ${5 * MiB} 64k`, "flush"];
    await run("qemu-io", ["-f", "raw", "-d", "unmap", ...commands.flatMap((command) => ["-c", command]), uri]);
    expect(having(await nbdMap(uri), (type) => type === 0)).toEqual([
      [0, 64 * KiB],
      [MiB + 128 * KiB, 128 * KiB],
      [3 * MiB, 64 * KiB],
      [5 * MiB - 64 * KiB, 64 * KiB],
      [8 * MiB - 64 * KiB, 64 * KiB],
    ]);
  });
});

describe.for(servers.filter(({ bitmaps }) => bitmaps))("$name shows a dirty bitmap", (server) => {
  const context = "qemu:dirty-bitmap:daily";

  test("it is offered, begins clean, and has exactly the granules that were changed", async (testContext) => {
    const scene = await Interop.open(testContext, server, ["nbdinfo", "qemu-io"], noise(8 * MiB, 1), {
      bitmap: "daily",
    });
    expect(await run("nbdinfo", ["--json", scene.uri])).toContain(`"${context}"`);
    expect(having(await nbdMap(scene.uri, context), (type) => type !== 0)).toEqual([]);
    // A byte, both sides of a granule's edge, zeroes, a discard, and the last sector.
    const commands = [
      `write -P 1 ${2 * granularity + 77} 1`,
      `write -P 2 ${6 * granularity - 512} 1024`,
      `write -z ${MiB} ${granularity}`,
      `discard ${4 * MiB} ${2 * granularity}`,
      `write -P 3 ${8 * MiB - 512} 512`,
    ];
    await run("qemu-io", ["-f", "raw", "-d", "unmap", ...commands.flatMap((command) => ["-c", command]), scene.uri]);
    expect(having(await nbdMap(scene.uri, context), (type) => type === 1)).toEqual([
      [2 * granularity, granularity],
      [5 * granularity, 2 * granularity],
      [MiB, granularity],
      [4 * MiB, 2 * granularity],
      [8 * MiB - granularity, granularity],
    ]);
  });

  test("qemu-img map with x-dirty-bitmap sees what nbdinfo sees", async (testContext) => {
    const tools = ["nbdinfo", "qemu-io", "qemu-img"];
    const scene = await Interop.open(testContext, server, tools, noise(4 * MiB, 2), { bitmap: "daily" });
    await run("qemu-io", ["-f", "raw", "-c", "write -P 1 100000 300000", "-c", "write -P 2 3M 4k", scene.uri]);
    const extents = (await qemuMap(scene.uri, "daily")).map((each) => ({
      offset: each.start,
      length: each.length,
      type: each.data ? 0 : 1,
    }));
    const dirty = having(extents, (type) => type === 1);
    expect(dirty).toEqual(having(await nbdMap(scene.uri, context), (type) => type === 1));
    expect(dirty).toEqual([
      [granularity, 6 * granularity],
      [3 * MiB, granularity],
    ]);
  });

  test("a name that is no bitmap's is not offered", async (testContext) => {
    const scene = await Interop.open(testContext, server, ["nbdinfo"], noise(MiB, 3), { bitmap: "daily" });
    await expect(nbdMap(scene.uri, "qemu:dirty-bitmap:weekly")).rejects.toThrow(/weekly/);
  });
});
