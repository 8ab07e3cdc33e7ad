/** Points in time by filter nodes: what qemu-storage-daemon 7.2 answers, and what ours does. */
import { expect, test } from "vitest";
import { Both, KiB, MiB } from "./both.ts";

const length = 4 * MiB;

test("a filter, a snapshot above it, and exports of both: the reader sees the instant", async (context) => {
  const both = Both.start(context, "qemu-io", "nbdinfo");
  await both.disk("disk", length, 0x11);
  await both.disk("scratch", length);
  await both.serve();
  await both.ok("blockdev-add", { driver: "copy-before-write", "node-name": "cbw", file: "disk", target: "scratch" });
  await both.ok("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "cbw" });
  await both.export("cbw", { writable: true });
  await both.export("snap");
  await both.io("cbw", "write -P 0x22 0 64k", "write -P 0x33 1M 128k", "flush");
  expect(await both.read("snap", "read -P 0x11 0 64k", "read -P 0x11 1M 64k", "read -P 0x11 2M 64k")).toHaveLength(3);
  expect(await both.read("cbw", "read -P 0x22 0 64k", "read -P 0x33 1M 128k")).toHaveLength(2);
  expect(await both.map("snap", "base:allocation")).toMatch(/^ +0 +4194304 +0 +data$/m);
  const changed = await both.node("cbw");
  expect(changed["dirty-bitmaps"]).toMatchObject([{ count: length }, { count: 3 * 64 * KiB }]);
  await both.node("snap");
  await both.node("disk");
  expect(
    both
      .content("scratch")
      .subarray(0, 64 * KiB)
      .every((byte) => byte === 0x11),
  ).toBe(true);
  await both.io("cbw", "write -z 2M 64k");
  await both.read("snap", "read -P 0x11 2M 64k");
  // In the wrong order, and in the right one.
  for (const name of ["snap", "cbw", "disk", "scratch"]) await both.run("blockdev-del", { "node-name": name });
  await both.run("block_resize", { "node-name": "disk", size: 8 * MiB });
  await both.run("block_resize", { "node-name": "scratch", size: 8 * MiB });
  await both.run("block_resize", { "node-name": "snap", size: 8 * MiB });
  await both.ok("block-export-del", { id: "snap" });
  await both.ok("blockdev-del", { "node-name": "snap" });
  await both.ok("block-export-del", { id: "cbw" });
  for (const name of ["cbw", "scratch", "disk"]) await both.ok("blockdev-del", { "node-name": name });
});

test("limited to a bitmap: what it does not say is refused, and the bitmap stays free", async (context) => {
  const both = Both.start(context, "qemu-io", "nbdinfo");
  await both.disk("disk", length, 0x11);
  await both.disk("scratch", length);
  await both.serve();
  await both.ok("block-dirty-bitmap-add", { node: "disk", name: "daily" });
  await both.export("disk", { writable: true });
  await both.io("disk", "write -P 0x22 1M 64k", "write -P 0x33 3M 100k");
  await both.ok("block-export-del", { id: "disk" });
  await both.ok("blockdev-add", {
    driver: "copy-before-write",
    "node-name": "cbw",
    file: "disk",
    target: "scratch",
    bitmap: { node: "disk", name: "daily" },
  });
  await both.ok("block-dirty-bitmap-disable", { node: "disk", name: "daily" });
  await both.ok("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "cbw", discard: "unmap" });
  await both.export("cbw", { writable: true });
  await both.export("snap", { writable: true, bitmaps: [{ node: "disk", name: "daily" }] });
  await both.run("block-dirty-bitmap-remove", { node: "disk", name: "daily" });
  await both.io("cbw", "write -P 0x44 1M 64k");
  await both.node("cbw");
  await both.io("cbw", "write -P 0x55 0 64k"); // no part of it
  await both.read("snap", "read -P 0x22 1M 64k", "read -P 0x33 3M 64k");
  expect(await both.read("snap", "read 0 64k")).toEqual(["read failed: Invalid argument"]);
  expect(await both.read("snap", "read 1984k 128k")).toEqual(["read failed: Invalid argument"]);
  expect(await both.map("snap", "base:allocation")).toContain("Invalid argument");
  await both.map("snap", "qemu:dirty-bitmap:daily");
  // What was discarded is part of it no more; nothing can be written.
  await both.io("snap", "write 1M 4k", "write -z 1M 64k", "discard 1M 64k", "read 1M 64k", "read -P 0x33 3M 64k");
  await both.ok("block-export-del", { id: "snap" });
  await both.ok("block-dirty-bitmap-remove", { node: "disk", name: "daily" });
});

test("put above a node that a guest has open by reopening what stands on it, and taken out again", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11);
  await both.disk("scratch", length);
  await both.serve();
  await both.ok("blockdev-add", { driver: "raw", "node-name": "top", file: "disk" });
  await both.export("top", { writable: true });
  const cbw = { driver: "copy-before-write", "node-name": "cbw", file: "disk", target: "scratch" };
  const top = (file: string): Record<string, unknown> => ({ options: [{ driver: "raw", "node-name": "top", file }] });
  await both.ok("blockdev-add", cbw);
  await both.ok("blockdev-reopen", top("cbw"));
  await both.ok("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "cbw" });
  await both.export("snap");
  await both.io("top", "write -P 0x22 0 64k");
  await both.read("snap", "read -P 0x11 0 64k");
  await both.run("blockdev-reopen", top("nosuch"));
  await both.run("blockdev-reopen", top("top"));
  await both.run("blockdev-reopen", { options: [{ ...cbw, "cbw-timeout": 3 }] });
  await both.run("blockdev-reopen", { options: [{ driver: "snapshot-access", "node-name": "snap", file: "cbw" }] });
  await both.ok("block-export-del", { id: "snap" });
  await both.ok("blockdev-del", { "node-name": "snap" });
  await both.run("blockdev-del", { "node-name": "cbw" });
  await both.ok("blockdev-reopen", top("disk"));
  await both.ok("blockdev-del", { "node-name": "cbw" });
  await both.io("top", "write -P 0x44 0 64k");
  expect(
    both
      .content("disk")
      .subarray(0, 64 * KiB)
      .every((byte) => byte === 0x44),
  ).toBe(true);
});

test("the filter of a backup with sync none is read as one that was added", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11);
  await both.disk("scratch", length);
  await both.serve();
  await both.ok("blockdev-add", { driver: "raw", "node-name": "top", file: "disk" });
  await both.export("top", { writable: true });
  const backup = { device: "disk", target: "scratch", sync: "none", "job-id": "fleece", "filter-node-name": "flt" };
  await both.ok("blockdev-backup", backup);
  await both.ok("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "flt" });
  await both.export("snap");
  await both.io("top", "write -P 0x22 0 64k", "write -P 0x33 1M 64k");
  await both.read("snap", "read -P 0x11 0 64k", "read -P 0x11 1M 64k", "read -P 0x11 3M 64k");
  await both.node("flt", ["dirty-bitmaps"]);
  await both.run("blockdev-del", { "node-name": "flt" });
  await both.run("blockdev-add", { driver: "raw", "node-name": "flt", file: "disk" });
  await both.ok("block-export-del", { id: "snap" });
  await both.ok("blockdev-del", { "node-name": "snap" });
  await both.ok("block-job-cancel", { device: "fleece" });
  expect(await both.story("fleece")).toEqual([
    ...["created", "running", "aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"],
  ]);
  expect(await both.node("flt")).toEqual({});
});

test("what cannot be is refused in the same words", async (context) => {
  const both = Both.start(context);
  await both.disk("disk", length);
  await both.disk("scratch", length);
  await both.disk("other", 2 * MiB);
  await both.ok("block-dirty-bitmap-add", { node: "other", name: "short" });
  const add = (more: Readonly<Record<string, unknown>>): Promise<unknown> =>
    both.run("blockdev-add", {
      driver: "copy-before-write",
      "node-name": "cbw",
      file: "disk",
      target: "scratch",
      ...more,
    });
  await add({ file: "nosuch" });
  await add({ target: "nosuch" });
  await add({ "node-name": "disk" });
  await add({ "node-name": "1" });
  await add({ bitmap: { node: "nosuch", name: "b" } });
  await add({ bitmap: { node: "disk", name: "nosuch" } });
  await add({ bitmap: { node: "other", name: "short" } });
  await add({ file: { driver: "file", filename: "$DIR/nosuch" } });
  await add({ target: { driver: "file", filename: "$DIR/nosuch" } });
  await add({ "on-cbw-error": "ignore" });
  await add({ "cbw-timeout": -1 });
  await add({ "min-cluster-size": 65536 });
  await both.run("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "nosuch" });
  // Nothing is left of them.
  for (const name of ["other", "scratch", "disk"]) await both.ok("blockdev-del", { "node-name": name });
});

test("nodes opened inside it go with it", async (context) => {
  const both = Both.start(context);
  await both.disk("disk", length, 1);
  const inner = (name: string): unknown => ({ driver: "file", "node-name": name, filename: `$DIR/${name}` });
  await both.disk("scratch", length);
  await both.ok("blockdev-del", { "node-name": "scratch" });
  await both.ok("blockdev-add", {
    driver: "snapshot-access",
    "node-name": "snap",
    file: { driver: "copy-before-write", "node-name": "cbw", file: "disk", target: inner("scratch") },
  });
  await both.run("blockdev-del", { "node-name": "cbw" });
  await both.run("blockdev-del", { "node-name": "scratch" });
  await both.ok("blockdev-del", { "node-name": "snap" });
  expect(await both.node("cbw")).toEqual({});
  expect(await both.node("scratch")).toEqual({});
  await both.ok("blockdev-del", { "node-name": "disk" });
});

test("a target that takes nothing fails the guest's write, which may be tried again; the instant stands", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11);
  await both.disk("scratch-file", length);
  await both.ok("blockdev-add", {
    driver: "blkdebug",
    "node-name": "scratch",
    image: "scratch-file",
    "inject-error": [{ event: "none", iotype: "write", errno: 28, sector: MiB / 512 }],
  });
  await both.serve();
  await both.ok("blockdev-add", { driver: "copy-before-write", "node-name": "cbw", file: "disk", target: "scratch" });
  await both.ok("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "cbw" });
  await both.export("cbw", { writable: true });
  await both.export("snap");
  const refused = ["write failed: No space left on device"];
  expect(await both.io("cbw", "write -P 0x22 1M 64k")).toEqual(refused);
  expect(await both.io("cbw", "write -P 0x22 1M 4k")).toEqual(refused);
  await both.io("cbw", "write -P 0x22 2M 64k", "read -P 0x11 1M 64k", "read -P 0x22 2M 64k");
  await both.read("snap", "read -P 0x11 1M 64k", "read -P 0x11 2M 64k");
  expect(
    both
      .content("disk")
      .subarray(MiB, MiB + 64 * KiB)
      .every((byte) => byte === 0x11),
  ).toBe(true);
});

test("a target that is too slow fails the guest's write after cbw-timeout", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11);
  await both.disk("scratch-file", length);
  await both.ok("object-add", { "qom-type": "throttle-group", id: "slow", limits: { "bps-write": 1024 } });
  await both.ok("blockdev-add", {
    driver: "throttle",
    "node-name": "scratch",
    file: "scratch-file",
    "throttle-group": "slow",
  });
  await both.serve();
  await both.ok("blockdev-add", {
    driver: "copy-before-write",
    "node-name": "cbw",
    file: "disk",
    target: "scratch",
    "cbw-timeout": 1,
  });
  await both.ok("blockdev-add", { driver: "snapshot-access", "node-name": "snap", file: "cbw" });
  await both.export("cbw", { writable: true });
  await both.export("snap");
  // The first is let through, and owes for a minute.
  await both.io("cbw", "write -P 0x22 0 64k");
  const begun = performance.now();
  expect(await both.io("cbw", "write -P 0x22 1M 64k")).toEqual(["write failed: Invalid argument"]);
  expect(performance.now() - begun).toBeGreaterThan(1000);
  await both.read("snap", "read -P 0x11 1M 64k");
  await both.io("cbw", "read -P 0x11 1M 64k");
});
