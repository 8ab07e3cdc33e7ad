/**
 * What QEMU's manual shows of dirty bitmaps, as sequences of commands on raw images: bitmaps and what is done to them, chains of
 * incremental backups, several disks at one instant, partial failures, differential backups, recovery from errors, pulls.
 */
import { expect, test } from "vitest";
import { Both, KiB, MiB } from "./both.ts";

const length = 2 * MiB;
const success = ["created", "running", "waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"];
const noSpace = "BLOCK_JOB_COMPLETED No space left on device";

interface BackupOptions {
  readonly [name: string]: unknown;
}

/** Arguments of an incremental backup. */
function incremental(
  device: string,
  target: string,
  bitmap: string,
  more: BackupOptions = {},
): Record<string, unknown> {
  return { "job-id": `job-${device}`, device, target, sync: "incremental", bitmap, ...more };
}

/** A disk that a guest writes, with a bitmap. */
async function guestDisk(both: Both, name: string, fill: number): Promise<void> {
  await both.disk(name, length, fill);
  await both.export(name, { writable: true });
}

/** A target that has room for nothing in its second mebibyte. */
async function fullTarget(both: Both, name: string): Promise<void> {
  await both.disk(`${name}-file`, length);
  await both.ok("blockdev-add", {
    driver: "blkdebug",
    "node-name": name,
    image: `${name}-file`,
    "inject-error": [
      { event: "none", iotype: "write", errno: 28, sector: MiB / 512 },
      { event: "none", iotype: "write-zeroes", errno: 28, sector: MiB / 512 },
    ],
  });
}

test("bitmaps are made, queried, switched, merged, emptied and removed", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.serve();
  await guestDisk(both, "drive0", 0x11);
  const bitmap = (name: string): Record<string, unknown> => ({ node: "drive0", name });
  await both.ok("block-dirty-bitmap-add", { ...bitmap("bitmap0") });
  await both.ok("block-dirty-bitmap-add", {
    ...bitmap("bitmap1"),
    granularity: 131072,
    persistent: false,
    disabled: true,
  });
  await both.run("block-dirty-bitmap-add", { ...bitmap("bitmap2"), persistent: true });
  await both.io("drive0", "write -P 0x22 0 64k", "write -P 0x22 1M 200k");
  await both.bitmaps("drive0");
  await both.ok("block-dirty-bitmap-enable", bitmap("bitmap1"));
  await both.ok("block-dirty-bitmap-disable", bitmap("bitmap0"));
  await both.io("drive0", "write -P 0x33 512k 64k");
  await both.bitmaps("drive0");
  await both.ok("block-dirty-bitmap-add", { ...bitmap("merged"), disabled: true });
  await both.ok("block-dirty-bitmap-merge", { node: "drive0", target: "merged", bitmaps: ["bitmap0", "bitmap1"] });
  expect(await both.bitmaps("drive0")).toHaveLength(3);
  await both.ok("block-dirty-bitmap-clear", bitmap("bitmap0"));
  await both.ok("block-dirty-bitmap-remove", bitmap("bitmap1"));
  await both.run("block-dirty-bitmap-remove", bitmap("bitmap1"));
  await both.bitmaps("drive0");
});

test("a chain: a bitmap is added or emptied at the instant of a full backup, and incrementals follow", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.serve();
  await guestDisk(both, "drive0", 0x11);
  await both.disk("full", length);
  await both.ok("transaction", {
    actions: [
      { type: "block-dirty-bitmap-add", data: { node: "drive0", name: "bitmap0" } },
      { type: "blockdev-backup", data: { "job-id": "anchor", device: "drive0", target: "full", sync: "full" } },
    ],
  });
  expect(await both.story("anchor")).toEqual(success);
  expect(both.content("full").every((byte) => byte === 0x11)).toBe(true);
  // Each increment is copied over the one before: what a backing image would do.
  for (const round of [1, 2, 3]) {
    await both.io("drive0", `write -P ${round} ${round * 128}k 64k`, `write -P ${round} 1M 96k`);
    await both.bitmaps("drive0");
    await both.ok("blockdev-backup", incremental("drive0", "full", "bitmap0"));
    expect(await both.story("job-drive0")).toEqual(success);
    expect(both.content("full").equals(both.content("drive0"))).toBe(true);
    expect(await both.bitmaps("drive0")).toMatchObject([{ name: "bitmap0", count: 0, busy: false }]);
  }
  // A new chain from the same bitmap.
  await both.io("drive0", "write -P 9 0 64k");
  await both.disk("second", length);
  await both.ok("transaction", {
    actions: [
      { type: "block-dirty-bitmap-clear", data: { node: "drive0", name: "bitmap0" } },
      { type: "blockdev-backup", data: { "job-id": "anchor2", device: "drive0", target: "second", sync: "full" } },
    ],
  });
  expect(await both.story("anchor2")).toEqual(success);
  expect(both.content("second").equals(both.content("drive0"))).toBe(true);
  expect(await both.bitmaps("drive0")).toMatchObject([{ count: 0 }]);
});

test("several disks at one instant: each job ends on its own", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.serve();
  for (const [index, name] of ["drive0", "drive1"].entries()) {
    await guestDisk(both, name, 0x11 * (index + 1));
    await both.disk(`target-${name}`, length);
    await both.ok("block-dirty-bitmap-add", { node: name, name: "bitmap0" });
    await both.io(name, "write -P 0x55 64k 64k", "write -P 0x66 1M 64k");
  }
  await both.ok("transaction", {
    actions: ["drive0", "drive1"].map((name) => ({
      type: "blockdev-backup",
      data: incremental(name, `target-${name}`, "bitmap0"),
    })),
  });
  for (const name of ["drive0", "drive1"]) {
    expect(await both.story(`job-${name}`)).toEqual(success);
    both.content(`target-${name}`);
    expect(await both.bitmaps(name)).toMatchObject([{ count: 0 }]);
  }
});

test.for(["individual", "grouped"] as const)(
  "one of two fails (%s): whose bitmap begins anew",
  async (mode, context) => {
    const both = Both.start(context, "qemu-io");
    await both.serve();
    for (const name of ["drive0", "drive1"]) {
      await guestDisk(both, name, 0x11);
      await both.ok("block-dirty-bitmap-add", { node: name, name: "bitmap0" });
      await both.io(name, "write -P 0x55 64k 64k", "write -P 0x66 1M 64k");
    }
    await both.disk("good", length);
    await fullTarget(both, "bad");
    const job = (name: string, target: string): unknown => ({
      type: "blockdev-backup",
      data: incremental(name, target, "bitmap0", { "auto-dismiss": false }),
    });
    const properties = mode === "grouped" ? { properties: { "completion-mode": "grouped" } } : {};
    await both.ok("transaction", { actions: [job("drive0", "good"), job("drive1", "bad")], ...properties });
    for (const name of ["drive0", "drive1"]) await both.status(`job-${name}`, "concluded");
    const jobs = await both.jobs();
    const kept = mode === "grouped" ? 2 * 64 * KiB : 0;
    expect(jobs.find(({ id }) => id === "job-drive0")?.error).toBe(
      mode === "grouped" ? "Operation canceled" : undefined,
    );
    expect(jobs.find(({ id }) => id === "job-drive1")?.error).toBe("No space left on device");
    expect(await both.bitmaps("drive0")).toMatchObject([{ count: kept, busy: false }]);
    expect(await both.bitmaps("drive1")).toMatchObject([{ count: 2 * 64 * KiB, busy: false }]);
    for (const name of ["drive0", "drive1"]) await both.ok("job-dismiss", { id: `job-${name}` });
    // Tried again with a target that takes it.
    await both.disk("retry", length);
    await both.ok("blockdev-backup", incremental("drive1", "retry", "bitmap0"));
    expect((await both.story("job-drive1")).slice(-7)).toEqual(success);
    expect(await both.bitmaps("drive1")).toMatchObject([{ count: 0 }]);
    both.content("retry");
  },
);

test("an error fails the job, and nothing is forgotten; or the job stops, and goes on or is cancelled", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.serve();
  await guestDisk(both, "drive0", 0x11);
  await both.ok("block-dirty-bitmap-add", { node: "drive0", name: "bitmap0" });
  await both.io("drive0", "write -P 0x66 1M 64k");
  await fullTarget(both, "bad");
  await both.ok("blockdev-backup", incremental("drive0", "bad", "bitmap0"));
  expect(await both.story("job-drive0")).toEqual([
    ...["created", "running", "BLOCK_JOB_ERROR write report", "aborting", noSpace, "concluded", "null"],
  ]);
  expect(await both.bitmaps("drive0")).toMatchObject([{ count: 64 * KiB, recording: true, busy: false }]);
  await both.ok("blockdev-backup", incremental("drive0", "bad", "bitmap0", { "on-target-error": "stop" }));
  await both.status("job-drive0", "paused");
  const [job] = (await both.run("query-block-jobs")) as readonly Record<string, unknown>[];
  expect(job).toMatchObject({ "io-status": "nospace", status: "paused" });
  expect(await both.bitmaps("drive0")).toMatchObject([{ count: 64 * KiB, busy: true }]);
  await both.run("block-dirty-bitmap-remove", { node: "drive0", name: "bitmap0" });
  await both.run("block-job-cancel", { device: "job-drive0" });
  await both.ok("job-cancel", { id: "job-drive0" });
  await both.story("job-drive0");
  expect(await both.bitmaps("drive0")).toMatchObject([{ count: 64 * KiB, busy: false }]);
  await both.disk("good", length);
  await both.ok("blockdev-backup", incremental("drive0", "good", "bitmap0"));
  expect(await both.story("job-drive0")).toEqual(success);
});

test("a differential backup: every change since the full one, by a bitmap that is merged for it", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.serve();
  await guestDisk(both, "drive0", 0x11);
  await both.disk("full", length);
  const add = (name: string, disabled = false): unknown => ({
    type: "block-dirty-bitmap-add",
    data: { node: "drive0", name, ...(disabled ? { disabled } : {}) },
  });
  const backup = { "job-id": "anchor", device: "drive0", target: "full", sync: "full" };
  await both.ok("transaction", { actions: [add("since-full"), { type: "blockdev-backup", data: backup }] });
  expect(await both.story("anchor")).toEqual(success);
  await both.io("drive0", "write -P 1 0 64k");
  const merge = (target: string, bitmaps: readonly string[]): unknown => ({
    type: "block-dirty-bitmap-merge",
    data: { node: "drive0", target, bitmaps },
  });
  const never = { sync: "bitmap", "bitmap-mode": "never" };
  for (const round of [1, 2]) {
    await both.disk(`differential${round}`, length);
    // What changed so far is split off; the rest goes on being recorded.
    const actions = [
      add(`copy${round}`, true),
      merge(`copy${round}`, ["since-full"]),
      {
        type: "blockdev-backup",
        data: incremental("drive0", `differential${round}`, `copy${round}`, never),
      },
    ];
    if (round === 1) {
      // QEMU makes a job of a bitmap that the same transaction fills; so does ours.
      await both.ok("transaction", { actions });
    } else {
      await both.ok("transaction", { actions: actions.slice(0, 2) });
      await both.ok("blockdev-backup", incremental("drive0", "differential2", "copy2", never));
    }
    expect(await both.story("job-drive0")).toEqual(success);
    both.content(`differential${round}`);
    await both.ok("block-dirty-bitmap-remove", { node: "drive0", name: `copy${round}` });
    expect(await both.bitmaps("drive0")).toMatchObject([{ name: "since-full", count: round * 64 * KiB }]);
    await both.io("drive0", `write -P ${round + 1} ${round}M 64k`);
  }
});

test("a pull: what changed is frozen aside, the disk is exported with it, and read through a filter", async (context) => {
  const both = Both.start(context, "qemu-io", "nbdinfo");
  await both.serve();
  await both.disk("drive0", length, 0x11);
  await both.ok("blockdev-add", { driver: "raw", "node-name": "top", file: "drive0" });
  await both.export("top", { writable: true });
  await both.ok("block-dirty-bitmap-add", { node: "drive0", name: "checkpoint0" });
  await both.io("top", "write -P 0x22 256k 64k", "write -P 0x33 1M 64k");
  await both.disk("scratch", length);
  // One instant: the old checkpoint stops, a new one begins, the job's filter is there.
  await both.ok("transaction", {
    actions: [
      { type: "block-dirty-bitmap-add", data: { node: "drive0", name: "checkpoint1" } },
      { type: "block-dirty-bitmap-disable", data: { node: "drive0", name: "checkpoint0" } },
      {
        type: "blockdev-backup",
        data: { "job-id": "pull", device: "drive0", target: "scratch", sync: "none", "filter-node-name": "flt" },
      },
    ],
  });
  await both.ok("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "flt" });
  await both.export("snap", { bitmaps: [{ node: "drive0", name: "checkpoint0" }] });
  await both.io("top", "write -P 0x44 256k 64k", "write -P 0x55 1536k 64k");
  expect(await both.map("snap", "qemu:dirty-bitmap:checkpoint0")).toMatch(/^ +262144 +65536 +1 +dirty$/m);
  await both.read("snap", "read -P 0x22 256k 64k", "read -P 0x33 1M 64k", "read -P 0x11 1536k 64k");
  await both.run("block-dirty-bitmap-remove", { node: "drive0", name: "checkpoint0" });
  await both.ok("block-export-del", { id: "snap" });
  await both.ok("blockdev-del", { "node-name": "snap" });
  await both.ok("job-cancel", { id: "pull" });
  await both.story("pull");
  expect(await both.bitmaps("drive0")).toMatchObject([
    { name: "checkpoint1", count: 2 * 64 * KiB },
    { name: "checkpoint0", count: 2 * 64 * KiB },
  ]);
});
