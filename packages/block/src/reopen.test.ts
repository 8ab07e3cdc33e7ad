import { readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BlockError, closeNode, connectNode, openNode, reopenNode } from "@heirloom/block";
import { expect, onTestFinished, test } from "vitest";
import { RemoteNode } from "./remote-node.fixture.ts";
import { needTool, run, scratchDirectory } from "./tool.fixture.ts";

const EBADF = 9;

function image(): string {
  const path = join(scratchDirectory(), "disk.raw");
  writeFileSync(path, new Uint8Array(8192).fill(0x11));
  return path;
}

test("a thread that has a file connected writes it after it was reopened, and not after it was again", async () => {
  const path = image();
  const handle = await openNode({ driver: "file", filename: path, readOnly: true });
  onTestFinished(() => closeNode(handle));
  const remote = await RemoteNode.start(handle);
  expect(remote.write(new Uint8Array(512).fill(1), 0)).toBe(EBADF);
  reopenNode(handle, false);
  expect(remote.write(new Uint8Array(512).fill(2), 0)).toBe(0);
  expect(remote.flush()).toBe(0);
  expect(remote.resize(4096)).toBe(0);
  reopenNode(handle, true);
  expect(remote.write(new Uint8Array(512).fill(3), 0)).toBe(EBADF);
  const buffer = new Uint8Array(512);
  expect(remote.read(buffer, 0)).toBe(0);
  expect(buffer[0]).toBe(2);
  await remote.end();
  expect(readFileSync(path)).toHaveLength(4096);
});

test("a file of another inode is not taken for the image, and one that is gone is missed by name", async () => {
  const path = image();
  const handle = await openNode({ driver: "file", filename: path, readOnly: true });
  onTestFinished(() => closeNode(handle));
  const reopening = (): unknown => {
    try {
      return reopenNode(handle, false);
    } catch (error) {
      return error;
    }
  };
  renameSync(path, `${path}.away`);
  expect(reopening()).toMatchObject({ code: "ERR_NODE_OPEN", errno: 2 });
  writeFileSync(path, "another");
  expect((reopening() as BlockError).message).toMatch("there is another file of that name now");
  unlinkSync(path);
  renameSync(`${path}.away`, path);
  expect(connectNode(handle).write(new Uint8Array(512), 0)).toBe(EBADF);
  expect(reopening()).toBeUndefined();
  expect(connectNode(handle).write(new Uint8Array(512), 0)).toBe(0);
});

test("locks follow: a reader's becomes a writer's and back, and another writer is found before", async (context) => {
  needTool(context, "qemu-io");
  const path = image();
  const handle = await openNode({ driver: "file", filename: path, readOnly: true });
  onTestFinished(() => closeNode(handle));
  const isReadBy = (): Promise<boolean> =>
    openNode({ driver: "file", filename: path, readOnly: true }).then(
      (reader) => (closeNode(reader), true),
      () => false,
    );
  const isWrittenBy = (): boolean => run("qemu-io", "-f", "raw", "-c", "write 0 512", path).status === 0;
  expect([await isReadBy(), isWrittenBy()]).toEqual([true, false]);
  reopenNode(handle, false);
  expect([await isReadBy(), isWrittenBy()]).toEqual([false, false]); // a reader of ours wants nobody to write
  reopenNode(handle, true);
  expect([await isReadBy(), isWrittenBy()]).toEqual([true, false]);
  const reader = await openNode({ driver: "file", filename: path, readOnly: true });
  expect(() => reopenNode(handle, false)).toThrow(expect.objectContaining({ code: "ERR_IMAGE_LOCKED" }));
  closeNode(reader);
  expect([await isReadBy(), isWrittenBy()]).toEqual([true, false]);
});

test("a driver that cannot be reopened says so", async () => {
  const handle = await openNode({ driver: "memory", size: 4096, readOnly: true });
  onTestFinished(() => closeNode(handle));
  expect(() => reopenNode(handle, false)).toThrow("a node of this driver cannot be reopened");
});
