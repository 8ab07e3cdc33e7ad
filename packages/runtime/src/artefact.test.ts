import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type ArtefactOptions,
  backupToArtefact,
  createRuntime,
  type Disk,
  readArtefact,
  rebuild,
  type Runtime,
} from "@heirloom/runtime";

const length = 4 * 1024 * 1024 + 512; // the last cluster is not whole
let directory: string;
let runtime: Runtime;
let disk: Disk;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "heirloom-artefact-"));
  runtime = createRuntime({ spill: { allowTmpfs: true } });
  disk = await runtime.attach({ driver: "file", filename: join(directory, "disk.img"), create: { length } });
  await disk.bitmaps.add("daily");
});
afterEach(async () => {
  await runtime.close();
  rmSync(directory, { recursive: true });
});

const file = (name: string): string => join(directory, name);
const contents = (): Buffer => readFileSync(file("disk.img"));
const failing = (target: object) => ({
  driver: "fault",
  file: target,
  rules: [{ kind: "write", nth: 2, action: { error: "EIO" } }],
});

async function run(name: string, options: Partial<ArtefactOptions>) {
  const backup = await backupToArtefact(runtime, { disk, bitmap: "daily", path: file(`${name}.json`), ...options });
  return await backup.done;
}
const full = (name: string) => run(name, { sync: "full", bitmapMode: "on-success" });

test("a chain of a full backup and two incrementals gives back each point in time", async () => {
  const points: Buffer[] = [];
  await disk.write(new Uint8Array(700_000).fill(1), 100_000);
  points.push(contents());
  const first = await full("first");
  await disk.write(new Uint8Array(70_000).fill(2), length - 70_000);
  await disk.writeZeroes(131_072, 65_536, { unmap: true });
  points.push(contents());
  const second = await run("second", { basedOn: first.artefact ?? "" });
  await disk.write(new Uint8Array(1).fill(3), 0);
  await disk.discard(196_608, 131_072);
  points.push(contents());
  const third = await run("third", { basedOn: second.artefact ?? "" });
  expect([first.status, second.status, third.status]).toEqual(["completed", "completed", "completed"]);
  const chain = ["first", "second", "third"].map((name) => file(`${name}.json`));
  for (const [index, point] of points.entries()) {
    const { length: bytes } = await rebuild(chain.slice(0, index + 1), file(`${index}.img`));
    expect(bytes).toBe(length);
    expect(readFileSync(file(`${index}.img`)).equals(point), `point in time ${index}`).toBe(true);
  }
});

test("the map says what was copied, and on what it builds", async () => {
  await disk.write(new Uint8Array(65_536).fill(1), 65_536);
  const before = Date.now();
  const { artefact: base } = await full("first");
  await disk.write(new Uint8Array(131_072).fill(2), 262_144);
  await disk.writeZeroes(0, 65_536);
  const { artefact } = await run("second", { basedOn: base ?? "" });
  const read = await readArtefact(file("second.json"));
  expect(read).toEqual(artefact);
  expect(read).toMatchObject({
    basedOn: base?.id,
    length,
    clusterSize: 65_536,
    sync: "incremental",
    bitmap: "daily",
    complete: true,
  });
  expect(read.extents).toEqual([
    { offset: 0, length: 65_536, kind: "zero" },
    { offset: 262_144, length: 131_072, kind: "data" },
  ]);
  expect(Date.parse(read.time)).toBeGreaterThanOrEqual(before);
  expect(base).toMatchObject({ basedOn: null, sync: "full" });
  const { blocks } = statSync(file("second.raw"));
  expect(blocks * 512, "the raw file is sparse").toBeLessThanOrEqual(131_072 + 8192);
});

test("the map is durable, and whole, before the bitmap abdicates", async () => {
  await disk.write(new Uint8Array(4096).fill(1), 0);
  const backup = await backupToArtefact(runtime, {
    disk,
    bitmap: "daily",
    sync: "full",
    bitmapMode: "on-success",
    path: file("first.json"),
    autoFinalize: false,
  });
  for await (const event of runtime.events()) if (event.name === "BLOCK_JOB_PENDING") break;
  expect(disk.bitmaps.get("daily").state).toBe("frozen");
  expect((await readArtefact(file("first.json"))).id).toBe(backup.id);
  backup.job.finalize();
  expect((await backup.done).status).toBe("completed");
});

test("a backup that is cancelled after its map was written leaves no artefact", async () => {
  await disk.write(new Uint8Array(4096).fill(1), 0);
  const backup = await backupToArtefact(runtime, { disk, path: file("first.json"), autoFinalize: false });
  for await (const event of runtime.events()) if (event.name === "BLOCK_JOB_PENDING") break;
  expect(existsSync(file("first.json"))).toBe(true);
  backup.job.cancel();
  expect(await backup.done).toMatchObject({ status: "cancelled", artefact: undefined });
  expect(readdirSync(directory)).toEqual(["disk.img"]);
});

test("a target that fails leaves no file, and the bitmap says what it said", async () => {
  const { artefact } = await full("first");
  await disk.write(new Uint8Array(65_536).fill(1), 0);
  await disk.write(new Uint8Array(65_536).fill(2), 262_144);
  const result = await run("second", { basedOn: artefact ?? "", through: failing, maxChunk: 65_536 });
  expect(result).toMatchObject({ status: "failed", artefact: undefined });
  expect(readdirSync(directory).sort()).toEqual(["disk.img", "first.json", "first.raw"]);
  expect([...disk.bitmaps.extents("daily")].map(({ offset }) => offset)).toEqual([0, 262_144]);
});

test("what a failed backup with bitmap-mode always copied is kept, and the next one builds on it", async () => {
  await disk.write(new Uint8Array(length).fill(9), 0);
  const { artefact: base } = await full("first");
  for (let at = 0; at < 1024 * 1024; at += 131_072) await disk.write(new Uint8Array(65_536).fill(1), at);
  const always = { sync: "bitmap", bitmapMode: "always", maxChunk: 65_536, maxWorkers: 1 } as const;
  const failed = await run("second", { ...always, basedOn: base ?? "", through: failing });
  expect(failed.status).toBe("failed");
  expect(failed.artefact).toMatchObject({ complete: false, basedOn: base?.id });
  expect(failed.artefact?.extents).toEqual([{ offset: 0, length: 65_536, kind: "data" }]);
  const chain = [file("first.json"), file("second.json")];
  await expect(rebuild(chain, file("image"))).rejects.toMatchObject({ code: "ERR_ARTEFACT_CHAIN" });
  await disk.write(new Uint8Array(512).fill(4), 1024 * 1024);
  const now = contents();
  await run("third", { basedOn: failed.artefact ?? "" });
  await rebuild([...chain, file("third.json")], file("image"));
  expect(readFileSync(file("image")).equals(now)).toBe(true);
});

test("what it kept is what it copied, though its bitmap is cleared as soon as it has failed", async () => {
  await disk.write(new Uint8Array(length).fill(9), 0);
  const { artefact: base } = await full("first");
  for (let at = 0; at < 1024 * 1024; at += 131_072) await disk.write(new Uint8Array(65_536).fill(1), at);
  const cleared: Promise<void>[] = [];
  const off = runtime.onEvent(({ name, data }) => {
    if (name === "BLOCK_JOB_COMPLETED" && data.error !== undefined) cleared.push(disk.bitmaps.clear("daily"));
  });
  const always = { sync: "bitmap", bitmapMode: "always", maxChunk: 65_536, maxWorkers: 1 } as const;
  const failed = await run("second", { ...always, basedOn: base ?? "", through: failing });
  off();
  await Promise.all(cleared);
  expect([cleared.length, disk.bitmaps.get("daily").count]).toEqual([1, 0]);
  expect(failed.artefact?.extents).toEqual([{ offset: 0, length: 65_536, kind: "data" }]);
});

test("an artefact of a disk that was resized is none to build on", async () => {
  const { artefact: base } = await full("first");
  await disk.resize(2 * length);
  await expect(run("second", { basedOn: base ?? "" })).rejects.toMatchObject({ code: "ERR_ARTEFACT_LENGTH" });
  expect(readdirSync(directory).filter((name) => name.startsWith("second"))).toEqual([]);
});

test("files that exist are neither replaced nor removed", async () => {
  for (const name of ["first.raw", "first.json"]) {
    writeFileSync(file(name), "mine");
    await expect(full("first")).rejects.toMatchObject({ code: "ERR_ARTEFACT_WRITE" });
    expect(readFileSync(file(name), "utf8")).toBe("mine");
    rmSync(file(name));
  }
  expect(readdirSync(directory)).toEqual(["disk.img"]);
});

test("a refused backup leaves no file", async () => {
  await expect(run("first", { bitmap: "weekly", basedOn: "x" })).rejects.toMatchObject({
    code: "ERR_BITMAP_NOT_FOUND",
  });
  await expect(run("first", {})).rejects.toMatchObject({ code: "ERR_ARTEFACT_BASE" });
  await expect(run("first", { sync: "full", bitmapMode: "on-success", basedOn: "x" })).rejects.toMatchObject({
    code: "ERR_ARTEFACT_BASE",
  });
  await expect(run("first", { sync: "top", basedOn: "x" })).rejects.toMatchObject({ code: "ERR_ARTEFACT_SYNC" });
  await expect(run("first", { path: file("first.map") })).rejects.toMatchObject({ code: "ERR_ARTEFACT_NAME" });
  expect(readdirSync(directory)).toEqual(["disk.img"]);
});

test("what a failed backup with bitmap-mode always has left is written down before its bitmap gives it up", async () => {
  await disk.write(new Uint8Array(length).fill(9), 0);
  const { artefact: base } = await full("first");
  for (let at = 0; at < 1024 * 1024; at += 131_072) await disk.write(new Uint8Array(65_536).fill(1), at);
  const said = disk.bitmaps.get("daily").count;
  const states: string[] = [];
  const off = runtime.onEvent(({ name, data }) => {
    if (name === "JOB_STATUS_CHANGE" && data.status === "concluded")
      states.push(existsSync(file("second.json")) ? "written" : "missing");
  });
  const always = { sync: "bitmap", bitmapMode: "always", maxChunk: 65_536, maxWorkers: 1 } as const;
  await run("second", { ...always, basedOn: base ?? "", through: failing });
  off();
  expect([states, disk.bitmaps.get("daily").count]).toEqual([["written"], said - 65_536]);
});

test("where that cannot be written down the bitmap gives up nothing, and the next backup has it all", async () => {
  await disk.write(new Uint8Array(length).fill(9), 0);
  const { artefact: base } = await full("first");
  for (let at = 0; at < 1024 * 1024; at += 131_072) await disk.write(new Uint8Array(65_536).fill(1), at);
  const before = [...disk.bitmaps.extents("daily")];
  const always = { sync: "bitmap", bitmapMode: "always", maxChunk: 65_536, maxWorkers: 1 } as const;
  const backup = await backupToArtefact(runtime, {
    disk,
    bitmap: "daily",
    path: file("second.json"),
    basedOn: base ?? "",
    through: failing,
    ...always,
  });
  mkdirSync(file("second.json")); // a file cannot take its place
  expect(await backup.done).toMatchObject({ status: "failed", artefact: undefined, kept: [] });
  expect([...disk.bitmaps.extents("daily")]).toEqual(before);
  const now = contents();
  await run("third", { basedOn: base ?? "" });
  await rebuild([file("first.json"), file("third.json")], file("image"));
  expect(readFileSync(file("image")).equals(now)).toBe(true);
});
