import { existsSync, fstatSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { closeFile, fileSystemOf } from "@heirloom/block";
import { spillFileTask } from "../dist/helper-tasks.js";
import { fileSlotsWord, fileWantedWord } from "../dist/spill-layout.js";
import { unwrap } from "../dist/task-result.js";
import { difference, Lab, MiB, pattern } from "./lab.fixture.ts";
import { readView } from "../dist/reader.js";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(process.env.HEIRLOOM_TEST_DIRECTORY ?? tmpdir(), "heirloom-spill-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

const task = (given: object) => ({ fd: -1, directory, allowTmpfs: true, from: 0, to: MiB, floor: 0, ...given });
const descriptors = (): string[] =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });

describe("a spill file", () => {
  it("is nobody's but ours, has no name, and has its room on disk from the start", async () => {
    const { fd, allocated } = unwrap(await spillFileTask(task({})));
    const status = fstatSync(fd);
    expect(status.mode & 0o777).toBe(0o600);
    expect(status.nlink).toBe(0);
    expect(readdirSync(directory)).toEqual([]);
    expect(allocated).toBe(MiB);
    expect(status.blocks * 512).toBeGreaterThanOrEqual(MiB);
    const grown = unwrap(await spillFileTask(task({ fd, from: MiB, to: 3 * MiB })));
    expect(grown).toEqual({ fd, allocated: 3 * MiB });
    expect(fstatSync(fd).blocks * 512).toBeGreaterThanOrEqual(3 * MiB);
    closeFile(fd);
  });

  it("stops at its floor of free space, and leaves nothing open", async () => {
    const before = descriptors().length;
    const refused = await spillFileTask(task({ floor: 0.9999999 }));
    expect(() => unwrap(refused)).toThrow(/spill file: .*99\.99.* % free; the spill does not grow/);
    const there = unwrap(await spillFileTask(task({})));
    const facts = fileSystemOf(there.fd);
    if (typeof facts === "number") throw new Error("a file system has facts");
    const more = await spillFileTask(task({ fd: there.fd, from: MiB, to: MiB + facts.bytesAvailable * 2 }));
    expect(() => unwrap(more)).toThrow(/does not grow/);
    expect(fstatSync(there.fd).size).toBeLessThanOrEqual(MiB); // the file stays as it is
    closeFile(there.fd);
    expect(descriptors().length).toBe(before);
  });

  it("is not made on a tmpfs unless that was asked for", async ({ skip }) => {
    if (!existsSync("/dev/shm")) skip("there is no /dev/shm to try it on");
    expect(unwrapError(await spillFileTask(task({ directory: "/dev/shm", allowTmpfs: false })))).toMatch(
      /tmpfs.*spill\.allowTmpfs/,
    );
    const { fd } = unwrap(await spillFileTask(task({ directory: "/dev/shm" })));
    closeFile(fd);
  });

  it("names the directory that it cannot be made in", async () => {
    expect(unwrapError(await spillFileTask(task({ directory: join(directory, "none") })))).toMatch(
      /^spill file: open a file in .*none: ENOENT/,
    );
  });
});

function unwrapError(result: Parameters<typeof unwrap>[0]): string {
  try {
    unwrap(result);
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

describe("the keeper of a spill file", () => {
  it("makes it when memory is half full, off the guest's path, and closes it with the view", async () => {
    await using lab = new Lab();
    const length = 8 * MiB;
    const { layer, node, guest } = await lab.memory(length);
    node.write(pattern(length, 1), 0);
    const refused: Error[] = [];
    const options = {
      length,
      clusterSize: 65536,
      alignment: 1,
      guestDelayMaxMs: 5000,
      breakGuestWrite: false,
      spillMemory: MiB,
      spillFile: 100 * MiB,
      readers: true,
    };
    const before = descriptors().length;
    const view = lab.engine.view(layer, options, undefined, { directory, allowTmpfs: true, floor: 0 }, (error) =>
      refused.push(error),
    );
    await lab.change(layer, { views: [view.memory] });
    expect(guest.write(new Uint8Array(MiB / 2), 0)).toBe(0);
    expect(view.spillFileBytes).toBe(0);
    expect(guest.write(new Uint8Array(MiB / 4), MiB / 2)).toBe(0);
    expect(view.memory.spillWords[fileWantedWord]).toBe(1);
    while (view.memory.spillWords[fileSlotsWord] === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    expect(view.spillFileBytes).toBe(length); // never more than the view has
    for (let offset = MiB; offset < length; offset += MiB) expect(guest.write(new Uint8Array(MiB), offset)).toBe(0);
    const read = new Uint8Array(length);
    expect(readView(view.memory.view, node, 0, undefined, read, 0)).toBe(0);
    expect(difference(read, pattern(length, 1))).toBe(-1);
    expect(refused).toEqual([]);
    await lab.end(view);
    expect(descriptors().filter((name) => name.includes("heirloom-spill")).length).toBe(0);
    expect(descriptors().length).toBeLessThanOrEqual(before + 12); // a helper's own
    lab.expectFreeIsZero();
  });

  it("says once why it cannot, and guests go on with what there is", async () => {
    await using lab = new Lab();
    const { layer, node, guest } = await lab.memory(4 * MiB);
    node.write(pattern(4 * MiB, 1), 0);
    const refused: string[] = [];
    const options = {
      length: 4 * MiB,
      clusterSize: 65536,
      alignment: 1,
      guestDelayMaxMs: 5,
      breakGuestWrite: false,
      spillMemory: MiB,
      spillFile: 100 * MiB,
    };
    let told: () => void = () => {};
    const first = new Promise<void>((resolve) => (told = resolve));
    const view = lab.engine.view(
      layer,
      options,
      undefined,
      { directory: join(directory, "none"), allowTmpfs: true, floor: 0 },
      (error) => {
        refused.push(error.message);
        told();
      },
    );
    await lab.change(layer, { views: [view.memory] });
    expect(guest.write(new Uint8Array(MiB), 0)).toBe(0);
    await first;
    expect(guest.write(new Uint8Array(4096), MiB)).toBe(0);
    expect(view.broken?.reason).toBe("spill-full");
    expect(refused).toEqual([expect.stringContaining("ENOENT")]);
    await lab.end(view);
    lab.expectFreeIsZero();
  });
});
