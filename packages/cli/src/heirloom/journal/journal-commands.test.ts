/** `heirloom info` and `heirloom journal check`, on sidecars of real processes, some of them damaged by the layout that the README gives. */
import { closeSync, openSync, readFileSync, readSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { needTool, peer, runHeirloom, scratchDirectory, Serve } from "../command.fixture.ts";

const MiB = 2 ** 20;
const kept = ["--journal", "beside", "--journal-allow-tmpfs", "--journal-bound", "64M"];

function image(): string {
  const path = join(scratchDirectory(), "vm.raw");
  writeFileSync(path, "");
  truncateSync(path, 8 * MiB);
  return path;
}
async function serve(path: string): Promise<Serve> {
  const running = new Serve([path, "--socket", `${path}.sock`, "--bitmap", "daily", ...kept]);
  await running.ready();
  return running;
}

interface Info {
  readonly journal: {
    readonly inUse: boolean;
    readonly stop: string | null;
    readonly unsettledRegions: number;
    readonly recoveries: readonly object[];
  } | null;
  readonly bitmaps: readonly object[];
  readonly check?: { readonly faults: readonly string[]; readonly torn: object };
}
async function info(path: string): Promise<Info> {
  const { status, output, errors } = await runHeirloom(["info", path, "--json"]);
  expect({ status, errors }).toEqual({ status: 0, errors: "" });
  return JSON.parse(output) as Info;
}
async function check(path: string): Promise<{ status: unknown; faults: readonly string[]; torn: object }> {
  const { status, output } = await runHeirloom(["journal", "check", path, "--json"]);
  const { check: found } = JSON.parse(output) as Info;
  return { status, faults: found?.faults ?? [], torn: found?.torn ?? {} };
}

/** Changes a record where it lies; its checksum (crc32 of bytes 8 to its length, at 4) is made right again. */
function patch(sidecar: string, place: number, change: (record: Buffer) => void): void {
  const fd = openSync(sidecar, "r+");
  const record = Buffer.alloc(65536);
  readSync(fd, record, 0, record.length, place);
  change(record);
  record.writeUInt32LE(crc32(record.subarray(8, record.readUInt32LE(8))), 4);
  writeSync(fd, record, 0, record.readUInt32LE(8), place);
  closeSync(fd);
}
/** Both slots of the directory: the boot id stands at 40, so the system that wrote it is another one now. */
function loseThePower(sidecar: string): void {
  for (const place of [16_384, 81_920]) {
    if (readFileSync(sidecar).readUInt32LE(place) === 0) continue;
    patch(sidecar, place, (record) => void record.writeUInt32LE((record.readUInt32LE(40) ^ 1) >>> 0, 40));
  }
}

test("info follows an image through its life: in use, killed, recovered, closed", async (context) => {
  needTool(context, "qemu-io");
  const path = image();
  expect(await info(path)).toMatchObject({ journal: null, bitmaps: [] });
  const first = await serve(path);
  await peer("qemu-io", "-f", "raw", "-c", "write 1M 100k", await first.uri());
  const daily = { name: "daily", granularity: 65536, recording: true, frozen: false, inconsistent: null, damaged: 0 };
  expect(await info(path)).toMatchObject({
    journal: { inUse: true, stop: null, closedAt: null, bound: 64 * MiB, path: `${path}.heirloom` },
    bitmaps: [{ ...daily, dirty: 128 * 1024, persistent: true }],
  });
  expect((await check(path)).status).toBe(0);
  await first.end("SIGKILL");
  expect(await info(path)).toMatchObject({
    journal: { inUse: false, stop: "killed" },
    bitmaps: [{ dirty: 128 * 1024 }],
  });
  const killed = await runHeirloom(["info", path]);
  expect(killed.output).toMatch(/not closed since .*Z: its process was killed; the next attach recovers it\n/);
  expect(killed.output).toMatch(/^bitmap daily \(a bit for 64 KiB\): recording, 128 KiB dirty$/m);
  await (await serve(path)).end("SIGTERM");
  expect(await info(path)).toMatchObject({
    journal: { stop: "clean", unsettledRegions: 0, attaches: 2, recoveries: [{ kind: "killed" }] },
    bitmaps: [{ dirty: 128 * 1024 }],
  });
  expect((await runHeirloom(["info", path])).output).toMatch(
    /recovered after an unclean stop at \d{4}-.*Z, nothing was lost/,
  );
}, 120_000);

test("after a power loss the regions that were not settled count: told before the recovery, and after it", async (context) => {
  needTool(context, "qemu-io");
  const path = image();
  const first = await serve(path);
  await peer("qemu-io", "-f", "raw", "-c", "write 0 4k", "-c", "write 4M 4k", await first.uri());
  await first.end("SIGKILL");
  loseThePower(`${path}.heirloom`);
  const before = await info(path);
  const regions = before.journal?.unsettledRegions ?? 0;
  expect(before).toMatchObject({ journal: { stop: "power-loss" }, bitmaps: [{ dirty: regions * MiB }] });
  expect(regions).toBeGreaterThanOrEqual(2);
  expect((await runHeirloom(["info", path])).output).toContain("the system went down; the next attach recovers it");
  const second = await serve(path);
  const { exports } = await second.ready();
  expect(exports).toMatchObject([
    {
      journal: {
        bitmaps: [{ dirty: regions * MiB, story: expect.stringMatching(`, ${regions} regions not settled`) as string }],
      },
    },
  ]);
  await second.end("SIGTERM");
  expect(await info(path)).toMatchObject({ journal: { recoveries: [{ kind: "power-loss", regions }] } });
  expect((await runHeirloom(["info", path])).output).toMatch(
    new RegExp(`recovered after a power loss at .*Z, ${regions} regions not settled counted as dirty`),
  );
}, 120_000);

test("check: 0 where all is whole, 2 where something is not, 63 without a journal, 1 where it cannot be checked", async () => {
  const path = image();
  const sidecar = `${path}.heirloom`;
  expect(await runHeirloom(["journal", "check", path])).toMatchObject({
    status: 63,
    output: `${path} has no journal: nothing is kept for it\n`,
  });
  await (await serve(path)).end("SIGTERM");
  expect(await check(path)).toEqual({ status: 0, faults: [], torn: { superblocks: 0, marks: 0, directories: 0 } });
  expect((await runHeirloom(["journal", "check", path])).output).toBe(`${sidecar}: all is whole (1 bitmap)\n`);

  const whole = readFileSync(sidecar);
  const damaged = async (place: number): Promise<Awaited<ReturnType<typeof check>>> => {
    const bytes = Buffer.from(whole);
    bytes[place] ^= 1;
    writeFileSync(sidecar, bytes);
    const found = await check(path);
    writeFileSync(sidecar, whole);
    return found;
  };
  // Of what stands there twice, one is enough.
  expect(await damaged(8)).toMatchObject({ status: 0, torn: { superblocks: 1 } });
  expect(await damaged(16_384 + 30)).toMatchObject({ status: 0, torn: { directories: 1 } });
  expect(await damaged(147_456 + 100)).toMatchObject({
    status: 2,
    faults: ["bitmap 'daily': 1 block not whole, whose granules count as dirty"],
  });
  writeFileSync(sidecar, whole.subarray(0, 147_456));
  expect(await check(path)).toMatchObject({
    status: 2,
    faults: [expect.stringMatching(/ends at 151552, and the file at 147456/), expect.any(String)],
  });
  writeFileSync(sidecar, whole);
  truncateSync(path, 4 * MiB);
  expect(await check(path)).toMatchObject({
    status: 2,
    faults: [expect.stringMatching(/the image has 4194304 bytes and had 8388608/)],
  });
  writeFileSync(sidecar, "no sidecar");
  const none = await runHeirloom(["journal", "check", path]);
  expect([none.status, none.errors]).toEqual([2, expect.stringMatching(/expected a sidecar of Heirloom's/)]);

  expect((await runHeirloom(["journal", "check", join(path, "..", "nowhere.raw")])).status).toBe(1);
  expect((await runHeirloom(["journal", "check", sidecar])).errors).toMatch(/is a sidecar; expected the image/);
  expect((await runHeirloom(["journal", "check", "--what"])).status).toBe(1);
  expect((await runHeirloom(["info", "--what"])).status).toBe(2);
}, 120_000);

test("a sidecar of a newer version is told of by every command, and nobody goes on without it", async () => {
  const path = image();
  await (await serve(path)).end("SIGTERM");
  // The version stands at 24 of both superblocks.
  for (const place of [0, 4096]) patch(`${path}.heirloom`, place, (record) => void record.writeUInt32LE(2, 24));
  const sentence = /expected a format of version 1, found version 2; use the Heirloom that wrote it, or a later one/;
  for (const words of [
    ["info", path],
    ["journal", "check", path],
    ["serve", path, "--socket", `${path}.sock`],
  ]) {
    const { status, errors } = await runHeirloom(words);
    expect(status, words[0]).toBe(1);
    expect(errors).toMatch(sentence);
  }
}, 120_000);
