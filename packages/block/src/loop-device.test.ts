/** Block devices, as loop devices over files: the contract, and what only devices have. Needs root. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeNode, connectNode, ENOTSUP, openNode } from "@heirloom/block";
import { afterAll, expect, test } from "vitest";
import { describeContract } from "./contract.fixture.ts";
import { runOrThrow } from "./tool.fixture.ts";

const directory = mkdtempSync(join(tmpdir(), "heirloom-loop-"));
const devices = new Map<number, string>();

/** A loop device of zeroes, made once a length: nodes of the kernel are few. */
function loopDevice(length: number): string {
  const backing = join(directory, `${length}.raw`);
  let device = devices.get(length);
  if (device === undefined) {
    writeFileSync(backing, "");
    truncateSync(backing, length);
    device = runOrThrow("losetup", "-f", "--show", backing).trim();
    devices.set(length, device);
  }
  writeFileSync(device, new Uint8Array(length), { flag: "r+" });
  return device;
}

function refusalOfLoopDevices(): string | undefined {
  try {
    loopDevice(65536);
    return undefined;
  } catch (error) {
    return `no loop devices here (they need root and the loop module): ${(error as Error).message}`;
  }
}

const refused = refusalOfLoopDevices();

afterAll(() => {
  for (const device of devices.values()) spawnSync("losetup", ["-d", device]);
  rmSync(directory, { recursive: true });
});

if (refused !== undefined) {
  // Not a failure in CI: containers there have no loop devices, whatever is installed.
  test("block devices", (context) => context.skip(refused));
} else {
  describeContract("host_device on a loop device", {
    spec: (length) => ({ driver: "host_device", filename: loopDevice(length) }),
    resizable: false,
    lengths: [65536, 1_048_576 + 512],
  });

  test("file opens a block device as well; length and identity come from the device", async () => {
    const device = loopDevice(65536);
    const handle = await openNode({ driver: "file", filename: device });
    const node = connectNode(handle);
    expect(node.length()).toBe(65536);
    expect(handle.identity).toBe(`device:${statSync(device).rdev}`);
    expect(node.resize(131072)).toBe(ENOTSUP);
    closeNode(handle);
  });

  test("discards reach the device: the backing file gives its room back", async () => {
    const length = 4 * 2 ** 20;
    const device = loopDevice(length);
    const backing = join(directory, `${length}.raw`);
    const handle = await openNode({ driver: "host_device", filename: device });
    const node = connectNode(handle);
    expect(node.write(new Uint8Array(length).fill(1), 0) || node.flush()).toBe(0);
    const before = statSync(backing).blocks;
    expect(node.discard(1000, length - 2000)).toBe(0);
    expect(statSync(backing).blocks).toBeLessThan(before / 4);
    const edges = new Uint8Array(1000);
    expect(node.read(edges, 0)).toBe(0);
    expect(edges.every((byte) => byte === 1)).toBe(true);
    closeNode(handle);
  });

  test("two writers on one device exclude each other", async () => {
    const filename = loopDevice(65536);
    const handle = await openNode({ driver: "host_device", filename });
    await expect(openNode({ driver: "file", filename })).rejects.toMatchObject({ code: "ERR_IMAGE_LOCKED" });
    closeNode(handle);
  });

  test("a device cannot be created", async () => {
    const create = { length: 512, overwrite: true };
    await expect(openNode({ driver: "file", filename: loopDevice(65536), create })).rejects.toThrow(
      "expected a regular file to create",
    );
  });
}
