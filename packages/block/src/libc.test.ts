import { join } from "node:path";
import * as fs from "node:fs";
import {
  allocateRange,
  capabilities,
  closeFile,
  copyFileRange,
  copyFully,
  EAGAIN,
  EIO,
  ENOENT,
  EOPNOTSUPP,
  errnoName,
  errnoNumber,
  errnoText,
  fileSystemOf,
  O_CREAT,
  O_RDWR,
  O_TMPFILE,
  openFile,
  punchHole,
  readCached,
  readFully,
  seekData,
  seekEnd,
  seekHole,
  syncData,
  truncateFile,
  writeFully,
} from "@heirloom/block";
import { expect, onTestFinished, test } from "vitest";
import { run, scratchDirectory } from "./tool.fixture.ts";

function scratchFile(base?: string): number {
  const fd = openFile(join(scratchDirectory(base), "file"), O_RDWR | O_CREAT);
  expect(fd).toBeGreaterThan(0);
  onTestFinished(() => expect(closeFile(fd)).toBe(0));
  return fd;
}

test("system calls are native where koffi is installed", () => {
  expect(capabilities()).toMatchObject({ native: true, reason: undefined, copyFileRange: true });
});

test("offsets past 4 GiB arrive whole, on views of shared memory too", () => {
  const fd = scratchFile();
  const offset = 5 * 2 ** 32 + 12345;
  const shared = new Uint8Array(new SharedArrayBuffer(8192), 100, 5000).fill(0xab);
  expect(writeFully(fd, shared, offset)).toBe(0);
  const plain = Buffer.alloc(5000);
  expect(fs.readSync(fd, plain, 0, 5000, offset)).toBe(5000);
  expect(plain.every((byte) => byte === 0xab)).toBe(true);
  const back = new Uint8Array(new SharedArrayBuffer(5002), 1, 5000);
  expect(readFully(fd, back, offset)).toBe(0);
  expect(Buffer.compare(back, plain)).toBe(0);
  const whole = new Uint8Array(back.buffer);
  expect([whole[0], whole[5001]]).toEqual([0, 0]);
});

test("a read across the end of the file fills zeroes over what was in the buffer", () => {
  const fd = scratchFile();
  writeFully(fd, new Uint8Array(100).fill(1), 0);
  const buffer = new Uint8Array(300).fill(9);
  expect(readFully(fd, buffer, 50)).toBe(0);
  expect(buffer.subarray(0, 50).every((byte) => byte === 1)).toBe(true);
  expect(buffer.subarray(50).every((byte) => byte === 0)).toBe(true);
  expect(readFully(fd, buffer.fill(9), 5000)).toBe(0);
  expect(buffer.every((byte) => byte === 0)).toBe(true);
});

test("transfers of nothing succeed", () => {
  const fd = scratchFile();
  expect(readFully(fd, new Uint8Array(0), 0)).toBe(0);
  expect(writeFully(fd, new Uint8Array(0), 0)).toBe(0);
  expect(copyFully(fd, 0, fd, 100, 0)).toBe(0);
});

test("errors come as errno values", () => {
  expect(openFile("/nowhere/at/all", O_RDWR)).toBe(-ENOENT);
  const closed = 1_000_000;
  expect(errnoName(readFully(closed, new Uint8Array(1), 0))).toBe("EBADF");
  expect(errnoName(writeFully(closed, new Uint8Array(1), 0))).toBe("EBADF");
  expect(errnoName(syncData(closed))).toBe("EBADF");
  expect(errnoName(truncateFile(closed, 0))).toBe("EBADF");
  expect(errnoName(closeFile(closed))).toBe("EBADF");
  expect(errnoName(fileSystemOf(closed) as number)).toBe("EBADF");
});

test("copy_file_range copies at 64-bit offsets, and says where the source ends", () => {
  const fd = scratchFile();
  const target = scratchFile();
  const far = 3 * 2 ** 32 + 7;
  writeFully(fd, Buffer.from("heirloom"), far);
  expect(copyFully(fd, far, target, far + 4, 8)).toBe(0);
  const read = Buffer.alloc(8);
  expect(readFully(target, read, far + 4)).toBe(0);
  expect(read.toString()).toBe("heirloom");
  expect(copyFileRange(fd, far + 8, target, 0, 100)).toBe(0);
  expect(copyFully(fd, far, target, 0, 9)).toBe(EIO);
});

test("holes are found and made, and room is taken ahead", () => {
  const fd = scratchFile();
  const unit = 65536;
  writeFully(fd, new Uint8Array(4 * unit).fill(1), 0);
  expect(punchHole(fd, unit, unit)).toBe(0);
  expect([seekHole(fd, 0), seekData(fd, unit), seekEnd(fd)]).toEqual([unit, 2 * unit, 4 * unit]);
  expect(allocateRange(fd, 4 * unit, 4 * unit)).toBe(0);
  expect(seekEnd(fd)).toBe(8 * unit);
  expect(fs.fstatSync(fd).blocks).toBeGreaterThanOrEqual((7 * unit) / 512);
});

test("an unnamed file has no name and goes with its descriptor", () => {
  const directory = scratchDirectory();
  const fd = openFile(directory, O_TMPFILE | O_RDWR);
  expect(fd).toBeGreaterThan(0);
  expect(writeFully(fd, new Uint8Array(10), 0)).toBe(0);
  expect(fs.readdirSync(directory)).toEqual([]);
  expect(fs.fstatSync(fd).mode & 0o777).toBe(0o600);
  closeFile(fd);
});

test("descriptors are not inherited by what we start", () => {
  const fd = scratchFile();
  expect(run("sh", "-c", `test -e /proc/self/fd/${fd} && readlink /proc/self/fd/${fd}; true`).text).not.toContain(
    "heirloom",
  );
});

test("file systems are told apart, with their room", () => {
  const disk = fileSystemOf(scratchFile("/dev/shm"));
  const facts = fs.statfsSync("/dev/shm");
  expect(disk).toMatchObject({ isTmpfs: true, type: facts.type, bytesTotal: facts.blocks * facts.bsize });
  const here = fileSystemOf(scratchFile());
  expect(here).toMatchObject({ type: fs.statfsSync(scratchDirectory()).type });
});

test("readCached answers what the page cache has, or that it cannot know", () => {
  const fd = scratchFile();
  writeFully(fd, Buffer.from("heirloom"), 100);
  const buffer = new Uint8Array(8);
  const result = readCached(fd, buffer, 100);
  expect([8, -EOPNOTSUPP, -EAGAIN]).toContain(result);
  if (result === 8) expect(Buffer.from(buffer).toString()).toBe("heirloom");
});

test("errno values have strerror's texts and the system's names", () => {
  // The second source: Python, or the C library through it, where there is one; the known five in any case.
  expect([EIO, ENOENT, EAGAIN].map(errnoText)).toEqual([
    "Input/output error",
    "No such file or directory",
    "Resource temporarily unavailable",
  ]);
  expect(errnoName(28)).toBe("ENOSPC");
  expect(errnoNumber("ENOSPC")).toBe(28);
  expect(errnoNumber("toString")).toBeUndefined();
  expect(errnoName(EAGAIN)).toBe("EAGAIN");
  expect(errnoText(4000)).toBe("Unknown error 4000");
});
