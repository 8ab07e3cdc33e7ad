import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { capabilities, closeNode, connectNode, openNode } from "@heirloom/block";
import { copiedClustersWord } from "../dist/job-layout.js";
import { Mover } from "../dist/mover.js";
import { contentOf, difference, jobOf, KiB, Lab, MiB, nodeWith, pattern } from "./lab.fixture.ts";

const length = 4 * MiB + 3000;

async function files(lab: Lab) {
  const disk = await lab.disk({
    driver: "file",
    filename: join(lab.directory, "disk.img"),
    create: { length, overwrite: true },
  });
  const handle = await openNode({
    driver: "file",
    filename: join(lab.directory, "copy.img"),
    create: { length, overwrite: true },
  });
  return { disk, handle, target: connectNode(handle) };
}

describe.skipIf(!capabilities().copyFileRange)("the kernel's copy", () => {
  it("moves bytes from file to file without a buffer, holes as holes, the cut-off end included", async () => {
    await using lab = new Lab();
    const { disk, handle, target } = await files(lab);
    disk.node.write(pattern(MiB, 1), 64 * KiB);
    disk.node.write(pattern(3000, 2), 4 * MiB);
    target.write(pattern(length, 9), 0);
    const view = await lab.view(disk.layer);
    let reads = 0;
    const source = nodeWith(disk.node, { read: (buffer, offset) => (reads++, disk.node.read(buffer, offset)) });
    expect(new Mover(jobOf(view.memory.view, source, target), true, undefined).run()).toBe("copied");
    expect(difference(contentOf(target), contentOf(disk.node))).toBe(-1);
    expect(reads).toBe(0);
    await lab.end(view);
    closeNode(handle);
    closeNode(disk.handle);
  });

  it("never keeps what a guest wrote between the look and the copy: the drainer writes the old data over it", async () => {
    await using lab = new Lab();
    const { disk, handle, target } = await files(lab);
    const old = pattern(length, 1);
    disk.node.write(old.subarray(0, length - MiB), 0);
    old.fill(0, length - MiB); // a hole at the end
    const standing = await lab.view(disk.layer, { spillMemory: 8 * MiB });
    const { view } = standing.memory;
    let writes = 0;
    const look = view.neededOf.bind(view);
    view.neededOf = (word, mask) => {
      const needed = look(word, mask);
      // The copier's look, no claim held: a guest writes what the kernel is about to copy, and elsewhere.
      if (view.busy[word] === 0 && needed !== 0) {
        for (const at of [word * 32 * 4096 + 5000, length - 4096 - writes * 1000]) {
          if (at >= 0 && at + 3000 <= length) expect(disk.guest.write(pattern(3000, 100 + writes++), at)).toBe(0);
        }
      }
      return needed;
    };
    const job = jobOf(view, disk.node, target, { runBytesMax: 512 * KiB });
    expect(new Mover(job, true, undefined).run()).toBe("copied");
    expect(writes).toBeGreaterThan(20);
    expect(job.words[copiedClustersWord]).toBe(view.clusters); // by the copier or by the drainer, never by both
    expect(difference(contentOf(target), old)).toBe(-1);
    await lab.end(standing);
    lab.expectFreeIsZero();
    closeNode(handle);
    closeNode(disk.handle);
  });

  it("that cannot be done is done through a buffer", async () => {
    await using lab = new Lab();
    const { disk, handle, target } = await files(lab);
    disk.node.write(pattern(length, 1), 0);
    const view = await lab.view(disk.layer);
    const refusing = nodeWith(target, { direct: { fd: 1_000_000, shift: 0 } }); // EBADF
    expect(new Mover(jobOf(view.memory.view, disk.node, refusing), true, undefined).run()).toBe("copied");
    expect(difference(contentOf(target), pattern(length, 1))).toBe(-1);
    await lab.end(view);
    closeNode(handle);
    closeNode(disk.handle);
  });
});
