/** Persistent bitmaps through the API, on real files. Kills are in test/crash. */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { armFault, disarmFault } from "@heirloom/block";
import { createRuntime, type Disk, type Runtime } from "@heirloom/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cluster, MiB, pattern, Scene } from "./scene.fixture.ts";

const length = 8 * MiB;
const journal = { allowTmpfs: true };

let scene: Scene;
let image: string;
const open = new Set<Runtime>();
beforeEach(() => {
  scene = new Scene({}, "disk");
  image = join(scene.directory, "vm.img");
  writeFileSync(image, "");
  truncateSync(image, length);
});
afterEach(async () => {
  for (const runtime of open) await runtime.close();
  open.clear();
  await scene.close();
});

async function attach(filename = image): Promise<{ runtime: Runtime; disk: Disk; close: () => Promise<void> }> {
  const runtime = createRuntime({ guestDelayMax: 20_000 });
  open.add(runtime);
  const disk = await runtime.attach({ driver: "file", filename }, { journal });
  const close = async (): Promise<void> => {
    open.delete(runtime);
    await runtime.close();
  };
  return { runtime, disk, close };
}

function dirty(disk: Disk, name: string): number[] {
  const { granularity } = disk.bitmaps.get(name);
  return [...disk.bitmaps.extents(name)].flatMap(({ offset, length: bytes }) =>
    Array.from({ length: bytes / granularity }, (_, index) => offset / granularity + index),
  );
}

async function write(disk: Disk, ...clusters: number[]): Promise<void> {
  for (const one of clusters) await disk.write(pattern(512, one), one * cluster + 512);
}

describe("a persistent bitmap after a clean stop", () => {
  it("says what it said, and goes on recording", async () => {
    const first = await attach();
    await first.disk.bitmaps.add("daily", { persistent: true });
    await write(first.disk, 1, 5);
    await first.close();
    const second = await attach();
    expect(dirty(second.disk, "daily")).toEqual([1, 5]);
    expect(second.disk.bitmaps.get("daily")).toMatchObject({ recording: true, persistent: true, inconsistent: false });
    expect(second.disk.bitmaps.history("daily")[0].reason).toBe("found as it was left");
    await write(second.disk, 9);
    await second.close();
    const third = await attach();
    expect(dirty(third.disk, "daily")).toEqual([1, 5, 9]);
  });

  it("was cleared, merged, disabled, removed and resized as it was acknowledged", async () => {
    const { disk, close } = await attach();
    for (const name of ["cleared", "merged", "source", "off", "removed"])
      await disk.bitmaps.add(name, { persistent: true, granularity: name === "merged" ? 4096 : cluster });
    await write(disk, 1, 2);
    await disk.bitmaps.clear("cleared");
    await disk.bitmaps.clear("merged");
    await disk.bitmaps.disable("off");
    await disk.bitmaps.remove("removed");
    await write(disk, 3);
    await disk.bitmaps.merge("merged", ["source"]);
    await disk.resize(length + cluster);
    await write(disk, length / cluster);
    await close();
    const again = (await attach()).disk;
    expect(
      again.bitmaps
        .list()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["cleared", "merged", "off", "source"]);
    expect(dirty(again, "cleared")).toEqual([3, 128]);
    expect(dirty(again, "source")).toEqual([1, 2, 3, 128]);
    const fine = [1, 2, 3].flatMap((one) => Array.from({ length: 16 }, (_, index) => one * 16 + index));
    expect(dirty(again, "merged")).toEqual([...fine, 2048]);
    expect(dirty(again, "off")).toEqual([1, 2]);
    expect(again.bitmaps.get("off").recording).toBe(false);
    await again.bitmaps.enable("off");
    await write(again, 7);
    expect(dirty(again, "off")).toEqual([1, 2, 7]);
  });

  it("has abdicated after a success, and was reclaimed after a cancel", async () => {
    const { runtime, disk, close } = await attach();
    await disk.bitmaps.add("daily", { persistent: true });
    await write(disk, 1, 2);
    const target = { driver: "memory", size: length };
    const job = await runtime.backup({ disk, bitmap: "daily", target });
    expect((await job.done).status).toBe("completed");
    await write(disk, 4, 100); // the second has to wait
    const slow = await runtime.backup({ disk, bitmap: "daily", target, speed: 1 });
    await write(disk, 6);
    slow.cancel();
    await slow.done;
    expect(dirty(disk, "daily")).toEqual([4, 6, 100]);
    const view = disk.view({ bitmap: "daily" });
    await view.ready;
    await write(disk, 8);
    await view.success();
    await close();
    expect(dirty((await attach()).disk, "daily")).toEqual([8]);
  });

  it("with mode always keeps what did not reach a failing target", async () => {
    const { runtime, disk, close } = await attach();
    await disk.bitmaps.add("daily", { persistent: true });
    await write(disk, 1, 2, 3);
    const job = await runtime.backup({
      disk,
      bitmap: "daily",
      sync: "bitmap",
      bitmapMode: "always",
      target: {
        driver: "fault",
        file: { driver: "memory", size: length },
        rules: [{ kind: "write", offset: 2 * cluster, length: cluster, always: true, action: { error: 5 } }],
      },
    });
    expect((await job.done).status).toBe("failed");
    const left = dirty(disk, "daily");
    expect(left).toContain(2);
    await close();
    expect(dirty((await attach()).disk, "daily")).toEqual(left);
  });

  it("moves along when image and sidecar are renamed", async () => {
    const { disk, close } = await attach();
    await disk.bitmaps.add("daily", { persistent: true });
    await write(disk, 1);
    await close();
    const moved = join(scene.directory, "moved.img");
    renameSync(image, moved);
    renameSync(`${image}.heirloom`, `${moved}.heirloom`);
    expect(dirty((await attach(moved)).disk, "daily")).toEqual([1]);
  });
});

describe("changes behind our back", () => {
  const reasons: readonly [string, () => void, RegExp][] = [
    ["a write", () => writeFileSync(image, "x", { flag: "r+" }), /changed behind Heirloom's back/],
    ["other times", () => utimesSync(image, 1, 1), /changed behind Heirloom's back/],
    ["another length", () => truncateSync(image, length + 512), /has 8389120 bytes and had 8388608/],
    [
      "a copy in its place",
      () => {
        copyFileSync(image, `${image}.copy`);
        renameSync(`${image}.copy`, image);
      },
      /belongs to another image/,
    ],
  ];
  for (const [what, change, reason] of reasons) {
    it(`${what} after a clean stop: inconsistent, with the reason, and removable`, async () => {
      const { disk, close } = await attach();
      await disk.bitmaps.add("daily", { persistent: true });
      await close();
      change();
      const again = await attach();
      expect(again.disk.bitmaps.get("daily")).toMatchObject({ inconsistent: true, recording: false });
      expect(again.disk.bitmaps.history("daily")[0].reason).toMatch(reason);
      await expect(
        again.runtime.backup({ disk: again.disk, bitmap: "daily", target: { driver: "memory", size: length } }),
      ).rejects.toThrow(/inconsistent/);
      await again.disk.bitmaps.remove("daily");
      await again.disk.bitmaps.add("daily", { persistent: true });
      await write(again.disk, 2);
      await again.close();
      expect(dirty((await attach()).disk, "daily")).toEqual([2]);
    });
  }
});

describe("a sidecar that cannot be used is told in a sentence, and passed over by nobody", () => {
  beforeEach(async () => {
    const { disk, close } = await attach();
    await disk.bitmaps.add("daily", { persistent: true });
    await close();
  });

  it("damaged", async () => {
    writeFileSync(`${image}.heirloom`, "no sidecar");
    await expect(attach()).rejects.toThrow(
      /attach: open journal '.*vm.img.heirloom': expected a sidecar of Heirloom's/,
    );
  });

  it("open elsewhere", async () => {
    const other = join(scene.directory, "other.img");
    copyFileSync(image, other);
    const first = await attach();
    const runtime = createRuntime();
    open.add(runtime);
    const path = `${image}.heirloom`;
    await expect(runtime.attach({ driver: "file", filename: other }, { journal: { path } })).rejects.toThrow(
      /has it open/,
    );
    await first.close();
    const { bitmaps } = await runtime.attach({ driver: "file", filename: other }, { journal: { path } });
    expect(bitmaps.history("daily")[0].reason).toMatch(/belongs to another image/);
  });

  it("the image can be attached once the sidecar is removed", async () => {
    rmSync(`${image}.heirloom`);
    expect((await attach()).disk.bitmaps.list()).toEqual([]);
  });
});

describe("what has no place for a persistent bitmap refuses it in a sentence", () => {
  it("a disk in memory, a window, too fine a granularity, a tmpfs", async () => {
    const { runtime, disk } = await attach();
    const memory = await runtime.attach({ driver: "memory", size: length });
    await expect(memory.bitmaps.add("daily", { persistent: true })).rejects.toThrow(
      /Can't store persistent bitmaps to disk1: Operation not supported/,
    );
    const window = await runtime.attach({ driver: "raw", file: disk, offset: 0, size: MiB });
    await expect(window.bitmaps.add("daily", { persistent: true })).rejects.toThrow(/it is a window of 'disk0'/);
    if (existsSync("/dev/shm")) {
      const small = new Scene({}, "memory");
      const filename = join(small.directory, "a.img");
      writeFileSync(filename, "");
      truncateSync(filename, length);
      const other = await runtime.attach({ driver: "file", filename });
      await expect(other.bitmaps.add("daily", { persistent: true })).rejects.toThrow(/on a tmpfs/);
      expect(existsSync(`${filename}.heirloom`)).toBe(false);
      await other.detach();
      await small.close();
    }
  });

  it("a refused command leaves nothing in the sidecar", async () => {
    const { runtime, disk } = await attach();
    await disk.bitmaps.add("daily", { persistent: true });
    await write(disk, 1);
    const view = disk.view({ bitmap: "daily" });
    await view.ready;
    const bytes = statSync(`${image}.heirloom`).size;
    for (let time = 0; time < 5; time++) {
      await expect(disk.bitmaps.clear("daily")).rejects.toThrow(/currently in use/);
      await expect(disk.bitmaps.remove("daily")).rejects.toThrow(/currently in use/);
      await expect(disk.bitmaps.add("daily", { persistent: true })).rejects.toThrow(/already exists/);
    }
    await view.fail();
    for (let time = 0; time < 5; time++) {
      const job = await runtime.backup({ disk, bitmap: "daily", target: { driver: "memory", size: length } });
      expect((await job.done).status).toBe("completed");
    }
    expect(statSync(`${image}.heirloom`).size).toBeLessThanOrEqual(bytes + 2 * 4096);
  });
});

it("a journal that fails: the guest goes on, the bitmap is inconsistent here and at the next start", async () => {
  const program = fileURLToPath(new URL("../testing/failing-journal.mjs", import.meta.url));
  const output = JSON.parse(execFileSync(process.execPath, [program, image], { encoding: "utf8" })) as Record<
    string,
    unknown
  >;
  expect(output).toMatchObject({
    written: true,
    state: "inconsistent",
    event: { disk: "disk0", bitmaps: ["daily"] },
    readded: "recording",
  });
  expect(output.reason).toMatch(/EBADF/);
  expect(readFileSync(image).subarray(5 * cluster, 5 * cluster + 4)).toEqual(Buffer.alloc(4, 9));
});

it("a runtime that closes waits for a slow flush: the next start finds a clean stop", async () => {
  const runtime = createRuntime();
  open.add(runtime);
  const rules = [{ kind: "flush", action: { delayMs: 2000 }, always: true, armed: false }];
  const disk = await runtime.attach({ driver: "fault", file: { driver: "file", filename: image }, rules }, { journal });
  await disk.bitmaps.add("daily", { persistent: true });
  await write(disk, 1);
  armFault(disk.node, 0);
  await runtime.close();
  const { disk: again } = await attach();
  expect(again.bitmaps.history("daily")[0].reason).toBe("found as it was left");
});

describe("an image whose flushes fail: what is on it is not known, so its bitmaps say nothing any more", () => {
  async function attachFaulty(): Promise<{ runtime: Runtime; disk: Disk; failed: Promise<unknown> }> {
    const runtime = createRuntime();
    open.add(runtime);
    const rules = [{ kind: "flush", action: { error: "EIO" }, always: true, armed: false }];
    const spec = { driver: "fault", file: { driver: "file", filename: image }, rules };
    const disk = await runtime.attach(spec, { journal: { ...journal, settleMs: 10 } });
    const failed = new Promise((resolve) => {
      runtime.onEvent(({ name, data }) => {
        if (name === "JOURNAL_FAILED") resolve(data);
      });
    });
    return { runtime, disk, failed };
  }

  it("the guest goes on, an event tells, and the next start knows; then they can be made anew", async () => {
    const { runtime, disk, failed } = await attachFaulty();
    for (const name of ["daily", "weekly"]) await disk.bitmaps.add(name, { persistent: true });
    armFault(disk.node, 0);
    await write(disk, 1);
    expect(await failed).toMatchObject({
      disk: "disk0",
      bitmaps: ["daily", "weekly"],
      error: expect.stringMatching(/EIO/) as string,
    });
    await write(disk, 2);
    for (const name of ["daily", "weekly"])
      expect(disk.bitmaps.get(name)).toMatchObject({ inconsistent: true, recording: false });
    expect(disk.journal?.failed).toMatch(/EIO/);
    await runtime.close();

    const second = await attachFaulty();
    for (const name of ["daily", "weekly"]) expect(second.disk.bitmaps.history(name)[0].reason).toMatch(/EIO/);
    await second.disk.bitmaps.remove("daily");
    await second.disk.bitmaps.add("daily", { persistent: true });
    await write(second.disk, 3);
    await second.runtime.close();
    const { disk: third } = await attach();
    expect(dirty(third, "daily")).toEqual([3]);
    expect(third.bitmaps.get("weekly").inconsistent).toBe(true);
  });

  it("once flushes work again one can be made anew while the disk is attached; the others stay inconsistent", async () => {
    const { runtime, disk, failed } = await attachFaulty();
    for (const name of ["daily", "weekly"]) await disk.bitmaps.add(name, { persistent: true });
    armFault(disk.node, 0);
    await write(disk, 1);
    await failed;
    await disk.bitmaps.remove("daily");
    await expect(disk.bitmaps.add("daily", { persistent: true })).rejects.toThrow(/EIO/);
    disarmFault(disk.node, 0);
    await disk.bitmaps.remove("daily").catch(() => {});
    await disk.bitmaps.add("daily", { persistent: true });
    await write(disk, 4);
    expect(disk.journal?.failed).toBeNull();
    await runtime.close();
    const { disk: again } = await attach();
    expect(dirty(again, "daily")).toEqual([4]);
    expect(again.bitmaps.history("weekly")[0].reason).toMatch(/EIO/);
  });
});
