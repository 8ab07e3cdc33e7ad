/** blockdev-reopen for writing and for reading only: what qemu-storage-daemon 7.2 answers, and what ours does. */
import { execFileSync } from "node:child_process";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Both, MiB } from "./both.ts";

const length = MiB;

function file(name: string, readOnly: boolean): Readonly<Record<string, unknown>> {
  return { driver: "file", "node-name": name, filename: `$DIR/${name}`, "read-only": readOnly };
}

function reopened(...options: readonly unknown[]): Readonly<Record<string, unknown>> {
  return { options };
}

test("a node opened for reading is written after it was reopened, and read again after that", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11, { "read-only": true });
  await both.serve();
  await both.ok("block-dirty-bitmap-add", { node: "disk", name: "daily" });
  await both.run("block-export-add", { type: "nbd", id: "w", "node-name": "disk", writable: true });
  await both.export("disk", { bitmaps: ["daily"] }); // a reader, who stays
  await both.ok("blockdev-reopen", reopened(file("disk", false)));
  expect(await both.node("disk", ["dirty-bitmaps"])).toMatchObject({ ro: false });
  await both.ok("block-export-add", { type: "nbd", id: "w", "node-name": "disk", name: "w", writable: true });
  await both.io("w", "write -P 0x22 0 64k", "flush");
  await both.read("disk", "read -P 0x22 0 64k", "read -P 0x11 64k 64k");
  expect(both.content("disk")[0]).toBe(0x22);
  expect(await both.bitmaps("disk")).toMatchObject([{ name: "daily", count: 64 * 1024 }]);
  await both.run("blockdev-reopen", reopened(file("disk", true)));
  await both.ok("block-export-del", { id: "w" });
  await both.ok("blockdev-reopen", reopened(file("disk", true)));
  await both.run("block-export-add", { type: "nbd", id: "w", "node-name": "disk", name: "w", writable: true });
  await both.run("block_resize", { "node-name": "disk", size: 2 * length });
  await both.read("disk", "read -P 0x22 0 64k");
});

test("a node that stands on a read-only one says that it is not, and cannot be written before that is reopened", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11, { "read-only": true });
  await both.disk("source", length, 0x33);
  await both.serve();
  await both.ok("blockdev-add", { driver: "raw", "node-name": "top", file: "disk" });
  expect(await both.node("top", ["image", "file"])).toMatchObject({ ro: false });
  await both.run("block-export-add", { type: "nbd", id: "w", "node-name": "top", writable: true });
  await both.run("blockdev-backup", { "job-id": "j", device: "source", target: "top", sync: "full" });
  await both.run("block_resize", { "node-name": "top", size: 2 * length });
  await both.ok("blockdev-reopen", reopened(file("disk", false)));
  await both.export("top", { writable: true });
  await both.io("top", "write -P 0x22 0 64k");
  await both.run("blockdev-reopen", reopened(file("disk", true)));
  await both.run("blockdev-reopen", reopened({ driver: "raw", "node-name": "top", file: "disk", "read-only": true }));
  await both.ok("block-export-del", { id: "top" });
  await both.ok("blockdev-backup", { "job-id": "j", device: "source", target: "top", sync: "full" });
  await both.story("j");
  expect(both.content("disk")[0]).toBe(0x33);
});

test("what was opened inside a node follows it, unless its options say otherwise", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11);
  await both.disk("other", length, 0x11);
  await both.serve();
  for (const name of ["disk", "other"]) await both.ok("blockdev-del", { "node-name": name });
  const inside = { driver: "file", "node-name": "inside", filename: "$DIR/disk" };
  const top = { driver: "raw", "node-name": "top", file: inside };
  await both.ok("blockdev-add", { ...top, "read-only": true });
  expect(await both.node("inside")).toMatchObject({ ro: true });
  await both.ok("blockdev-reopen", reopened({ ...top, "read-only": false }));
  expect(await both.node("inside")).toMatchObject({ ro: false });
  await both.export("top", { writable: true });
  await both.io("top", "write -P 0x22 0 64k");
  const own = { driver: "file", "node-name": "own", filename: "$DIR/other", "read-only": true };
  await both.ok("blockdev-add", { driver: "raw", "node-name": "upon", file: own, "read-only": true });
  await both.ok("blockdev-reopen", reopened({ driver: "raw", "node-name": "upon", file: own, "read-only": false }));
  expect(await both.node("own")).toMatchObject({ ro: true });
  await both.run("block-export-add", { type: "nbd", id: "w", "node-name": "upon", writable: true });
});

test("a backup goes on while its source is reopened, and its target is not made read-only", async (context) => {
  const both = Both.start(context, "qemu-io");
  await both.disk("disk", length, 0x11, { "read-only": true });
  await both.disk("target", length);
  await both.serve();
  const job = { "job-id": "j", device: "disk", target: "target", sync: "none", "filter-node-name": "cbw" };
  await both.ok("blockdev-backup", job); // it stays until it is cancelled
  await both.ok("blockdev-reopen", reopened(file("disk", false)));
  await both.run("blockdev-reopen", reopened(file("target", true)));
  // The lock of a backup's source is that of the file as it is open now.
  for (const { directory } of [both.qemu, both.ours]) {
    const words = ["-f", "raw", "-c", "write 0 512", join(directory, "disk")];
    expect(() => execFileSync("qemu-io", words, { stdio: "pipe" })).toThrow(/Failed to get/);
  }
  await both.export("cbw", { writable: true });
  await both.io("cbw", "write -P 0x22 64k 64k", "flush");
  await both.ok("job-cancel", { id: "j" });
  await both.story("j");
  expect(both.content("target")[64 * 1024]).toBe(0x11);
  await both.ok("blockdev-reopen", reopened(file("target", true)));
  await both.run("blockdev-backup", job);
});

test("all or none: a file that cannot be opened for writing, and one that is gone", async (context) => {
  const both = Both.start(context);
  await both.disk("one", length, 0x11, { "read-only": true });
  await both.disk("two", length, 0x11, { "read-only": true });
  await both.ok("blockdev-add", { driver: "null-co", "node-name": "null", "read-only": true });
  const null0 = { driver: "null-co", "node-name": "null", "read-only": false };
  for (const { directory } of [both.qemu, both.ours]) renameSync(join(directory, "two"), join(directory, "away"));
  await both.run("blockdev-reopen", reopened(null0, file("one", false), file("two", false)));
  for (const name of ["null", "one"]) expect(await both.node(name)).toMatchObject({ ro: true });
  for (const { directory } of [both.qemu, both.ours]) renameSync(join(directory, "away"), join(directory, "two"));
  await both.run("blockdev-reopen", reopened(null0, file("one", false), file("nosuch", false)));
  await both.run("blockdev-reopen", reopened(null0, { ...file("one", false), filename: "$DIR/two" }));
  await both.ok("blockdev-reopen", reopened(null0, file("one", false), file("two", false)));
  for (const name of ["null", "one", "two"]) expect(await both.node(name)).toMatchObject({ ro: false });
});

test("ours does not take another file for the image, where QEMU does", async (context) => {
  const both = Both.start(context);
  await both.disk("disk", length, 0x11, { "read-only": true });
  const path = join(both.ours.directory, "disk");
  rmSync(path);
  writeFileSync(path, "somebody else's");
  const answer = await both.ours.execute("blockdev-reopen", reopened(file("disk", false)));
  expect(answer).toMatchObject({
    desc: "reopen '$DIR/disk': there is another file of that name now; expected the one that is open",
  });
  expect(await both.node("disk", ["image"])).toMatchObject({ ro: true });
});
