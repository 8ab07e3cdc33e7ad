import { closeSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import {
  type BlockNode,
  closeNode,
  connectNode,
  copyFully,
  ENOSPC,
  ENOTSUP,
  EPERM,
  type NodeHandle,
  type NodeSpec,
  openNode,
} from "@heirloom/block";
import { expect, onTestFinished, test } from "vitest";
import { RemoteNode } from "./remote-node.fixture.ts";
import { run, scratchDirectory } from "./tool.fixture.ts";

const MIB = 2 ** 20;

async function open(spec: NodeSpec): Promise<{ handle: NodeHandle; node: BlockNode }> {
  const handle = await openNode(spec);
  onTestFinished(() => closeNode(handle));
  return { handle, node: connectNode(handle) };
}

function extents(node: BlockNode): string[] {
  const extent = { length: 0, zero: false, allocated: false };
  const found: string[] = [];
  for (let offset = 0; offset < node.length(); offset += extent.length) {
    expect(node.status(offset, node.length() - offset, extent)).toBe(0);
    found.push(`${offset}+${extent.length} ${extent.zero ? "zero" : "data"} ${extent.allocated ? "room" : "hole"}`);
  }
  return found;
}

test("a created file is sparse, and status tells its data from its holes", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const { node } = await open({ driver: "file", filename, create: { length: 3 * MIB } });
  expect(statSync(filename).blocks).toBe(0);
  expect(extents(node)).toEqual([`0+${3 * MIB} zero hole`]);
  expect(node.write(new Uint8Array(MIB).fill(1), MIB)).toBe(0);
  expect(extents(node)).toEqual([`0+${MIB} zero hole`, `${MIB}+${MIB} data room`, `${2 * MIB}+${MIB} zero hole`]);
});

test("status answers no further than it was asked", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const { node } = await open({ driver: "file", filename, create: { length: 3 * MIB } });
  node.write(new Uint8Array(MIB).fill(1), MIB);
  const extent = { length: 0, zero: false, allocated: false };
  expect(node.status(1000, 500, extent)).toBe(0);
  expect(extent).toEqual({ length: 500, zero: true, allocated: false });
  expect(node.status(MIB + 1000, 500, extent)).toBe(0);
  expect(extent).toEqual({ length: 500, zero: false, allocated: true });
});

test("what another thread punched is seen by the next scan at the latest, and never called zero after data came", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const { handle, node } = await open({ driver: "file", filename, create: { length: 4 * MIB } });
  const other = connectNode(handle);
  node.write(new Uint8Array(4 * MIB).fill(1), 0);
  expect(extents(node)).toEqual([`0+${4 * MIB} data room`]);
  expect(other.discard(MIB, 3 * MIB)).toBe(0);
  expect(extents(node)).toEqual([`0+${MIB} data room`, `${MIB}+${3 * MIB} zero hole`]);
  expect(other.write(new Uint8Array(3 * MIB).fill(1), MIB)).toBe(0);
  const extent = { length: 0, zero: false, allocated: false };
  for (const offset of [0, MIB, 2 * MIB]) expect(node.status(offset, MIB, extent)).toBe(0);
  expect(other.discard(2 * MIB, MIB)).toBe(0);
  expect(node.status(2 * MIB, MIB, extent)).toBe(0);
  expect(extent).toEqual({ length: MIB, zero: true, allocated: false });
  expect(other.write(new Uint8Array(MIB).fill(1), 2 * MIB)).toBe(0);
  expect(node.status(2 * MIB, MIB, extent)).toBe(0);
  expect(extent.zero).toBe(false);
});

test("discards and zeroes with unmap give room back, zeroes without keep it", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const { node } = await open({ driver: "file", filename, create: { length: 4 * MIB } });
  const blocks = (): number => statSync(filename).blocks;
  node.write(new Uint8Array(4 * MIB).fill(1), 0);
  node.flush();
  const full = blocks();
  expect(node.writeZeroes(0, MIB, false)).toBe(0);
  expect(blocks()).toBe(full);
  expect(node.writeZeroes(MIB, MIB, true)).toBe(0);
  expect(blocks()).toBe(full - MIB / 512);
  expect(node.discard(2 * MIB, MIB)).toBe(0);
  expect(blocks()).toBe(full - (2 * MIB) / 512);
});

test("discard: 'ignore' leaves data and room as they are", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const { node } = await open({ driver: "file", filename, discard: "ignore", create: { length: MIB } });
  node.write(new Uint8Array(MIB).fill(1), 0);
  node.flush();
  expect(node.discard(0, MIB)).toBe(0);
  expect(readFileSync(filename).every((byte) => byte === 1)).toBe(true);
});

test("a file of odd length has exactly its length, and its last byte", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  writeFileSync(filename, new Uint8Array(1025).fill(1));
  const { node } = await open({ driver: "file", filename });
  expect(node.length()).toBe(1025);
  expect(node.write(Uint8Array.of(2), 1024)).toBe(0);
  expect(node.writeZeroes(1000, 24, true)).toBe(0);
  expect(statSync(filename).size).toBe(1025);
  expect([...readFileSync(filename).subarray(998)]).toEqual([1, 1, ...Array.from({ length: 24 }, () => 0), 2]);
});

test("a file that shrank behind our back reads as zeroes past its end", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  writeFileSync(filename, new Uint8Array(8192).fill(1));
  const { node } = await open({ driver: "file", filename });
  truncateSync(filename, 5000);
  const bytes = new Uint8Array(8192).fill(9);
  expect(node.read(bytes, 0)).toBe(0);
  expect(bytes.subarray(0, 5000).every((byte) => byte === 1)).toBe(true);
  expect(bytes.subarray(5000).every((byte) => byte === 0)).toBe(true);
  const extent = { length: 0, zero: false, allocated: false };
  expect(node.status(6000, 2192, extent)).toBe(0);
  expect(extent).toEqual({ length: 2192, zero: true, allocated: false });
});

test("another thread sees a resize at once", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const { handle, node } = await open({ driver: "file", filename, create: { length: MIB } });
  const remote = await RemoteNode.start(handle);
  expect(node.resize(5 * 2 ** 40 + 3)).toBe(0);
  expect(remote.length()).toBe(5 * 2 ** 40 + 3);
  expect(remote.resize(77)).toBe(0);
  expect(node.length()).toBe(77);
  expect(statSync(filename).size).toBe(77);
  await remote.end();
});

test("a resize that the file system refuses changes nothing", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const { node } = await open({ driver: "file", filename, create: { length: MIB } });
  expect(node.resize(Number.MAX_SAFE_INTEGER)).not.toBe(0);
  expect(node.length()).toBe(MIB);
});

test("a read-only node opens a file without write permission and refuses to resize", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  writeFileSync(filename, new Uint8Array(4096), { mode: 0o444 });
  const { handle, node } = await open({ driver: "file", filename, readOnly: true });
  expect(handle.readOnly).toBe(true);
  expect(node.resize(0)).toBe(EPERM);
  expect(node.flush()).toBe(0);
});

test("create refuses a file that exists, and overwrite empties it", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  writeFileSync(filename, "precious");
  const refused = openNode({ driver: "file", filename, create: { length: 4096 } });
  await expect(refused).rejects.toMatchObject({
    code: "ERR_NODE_OPEN",
    message: `create '${filename}': it exists already; expected a new name, or create.overwrite: true`,
  });
  expect(readFileSync(filename, "utf8")).toBe("precious");
  await open({ driver: "file", filename, create: { length: 4096, overwrite: true } });
  expect(readFileSync(filename)).toEqual(Buffer.alloc(4096));
});

test("a create that fails leaves no file", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const refused = openNode({ driver: "file", filename, create: { length: Number.MAX_SAFE_INTEGER } });
  await expect(refused).rejects.toMatchObject({ code: "ERR_NODE_OPEN", errno: expect.any(Number) as number });
  expect(() => statSync(filename)).toThrow("ENOENT");
});

test("what is no file and no device is refused", async () => {
  const directory = scratchDirectory();
  const refuse = async (spec: NodeSpec, text: string): Promise<void> => {
    await expect(openNode(spec)).rejects.toMatchObject({
      code: "ERR_NODE_OPEN",
      message: expect.stringContaining(text) as string,
    });
  };
  await refuse({ driver: "file", filename: "/dev/null" }, "expected a regular file or a block device");
  await refuse({ driver: "file", filename: directory, readOnly: true }, "expected a regular file or a block device");
  await refuse({ driver: "file", filename: join(directory, "none") }, "No such file or directory (ENOENT)");
  writeFileSync(join(directory, "file"), "x");
  await refuse({ driver: "host_device", filename: join(directory, "file") }, "expected a block device");
  expect(run("mkfifo", join(directory, "fifo")).status).toBe(0);
  await refuse({ driver: "file", filename: join(directory, "fifo"), readOnly: true }, "expected a regular file");
});

test("two names of one file are one identity, two files are two, and a window is its file", async () => {
  const directory = scratchDirectory();
  const one = { driver: "file", filename: join(directory, "a"), locking: "off" };
  const { handle } = await open({ ...one, create: { length: 4096 } });
  expect(run("ln", join(directory, "a"), join(directory, "b")).status).toBe(0);
  const linked = await open({ ...one, filename: join(directory, "b") });
  const window = await open({ driver: "raw", offset: 512, file: one });
  const other = await open({ ...one, filename: join(directory, "c"), create: { length: 4096 } });
  expect(linked.handle.identity).toBe(handle.identity);
  expect(window.handle.identity).toBe(handle.identity);
  expect(other.handle.identity).not.toBe(handle.identity);
});

test("direct names the file's own bytes, through windows in windows", async () => {
  const directory = scratchDirectory();
  const filename = join(directory, "a");
  const { node } = await open({
    driver: "raw",
    offset: 100,
    size: 200,
    file: { driver: "raw", offset: 1000, file: { driver: "file", filename, create: { length: 4096 } } },
  });
  expect(node.direct?.shift).toBe(1100);
  const other = openSync(join(directory, "b"), "w+");
  onTestFinished(() => closeSync(other));
  writeSync(other, "heirloom", 7);
  expect(copyFully(other, 7, node.direct!.fd, 50 + node.direct!.shift, 8)).toBe(0);
  const read = Buffer.alloc(8);
  expect(node.read(read, 50)).toBe(0);
  expect(read.toString()).toBe("heirloom");
});

test("a window must lie in its child, and one of a given size keeps it", async () => {
  const file = { driver: "memory", size: 1000 };
  const refuse = async (spec: NodeSpec, text: string): Promise<void> => {
    await expect(openNode(spec)).rejects.toThrow(text);
  };
  await refuse({ driver: "raw", file, offset: 1001 }, "offset 1001 must lie in the node under it (memory)");
  await refuse({ driver: "raw", file, offset: 500, size: 501 }, "which is 1000 bytes long");
  const { node } = await open({ driver: "raw", file, offset: 500, size: 500 });
  expect(node.resize(400)).toBe(ENOTSUP);
});

test("a window that is refused lets go of its file", async () => {
  const filename = join(scratchDirectory(), "a");
  const file = { driver: "file", filename };
  writeFileSync(filename, "x");
  await expect(openNode({ driver: "raw", file, offset: 2 })).rejects.toThrow();
  await open(file);
});

test("a full disk answers ENOSPC, and what was there stays", async (context) => {
  const directory = scratchDirectory();
  if (run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", directory).status !== 0) {
    // Not a failure in CI: mounting needs a right that containers do not have.
    context.skip("mounting a small tmpfs needs root");
  }
  try {
    const handle = await openNode({ driver: "file", filename: join(directory, "a"), create: { length: MIB } });
    const node = connectNode(handle);
    expect(node.write(new Uint8Array(65536).fill(1), 0)).toBe(0);
    expect(node.write(new Uint8Array(512 * 1024).fill(2), 65536)).toBe(ENOSPC);
    expect(node.write(new Uint8Array(4096).fill(2), MIB - 4096)).toBe(ENOSPC);
    const kept = new Uint8Array(65536);
    expect(node.read(kept, 0)).toBe(0);
    expect(kept.every((byte) => byte === 1)).toBe(true);
    expect(node.discard(65536, MIB - 65536)).toBe(0);
    expect(node.write(new Uint8Array(4096).fill(2), MIB - 4096)).toBe(0);
    closeNode(handle);
  } finally {
    expect(run("umount", directory).status).toBe(0);
  }
});

test("closing twice is a bug that is caught, not a descriptor of somebody else that is closed", async () => {
  const filename = join(scratchDirectory(), "a");
  const handle = await openNode({ driver: "file", filename, create: { length: 1 } });
  closeNode(handle);
  expect(() => closeNode(structuredCloneShared(handle))).toThrow("it is closed already");
});

/** A handle as another thread has it: a copy on the same shared memory. */
function structuredCloneShared(handle: NodeHandle): NodeHandle {
  return { ...handle, state: { ...(handle.state as object) } };
}
