import { describe, expect, it } from "vitest";
import { EIO, ENOSPC, type BlockNode } from "@heirloom/block";
import { drain } from "../dist/drainer.js";
import { copiedClustersWord, flushingWord, pausedWord, retiredClustersWord } from "../dist/job-layout.js";
import { Mover } from "../dist/mover.js";
import type { MoverError, MoverJob } from "../dist/mover-types.js";
import { preserveRange } from "../dist/preserve.js";
import { scanStep } from "../dist/scanner.js";
import { contentOf, difference, jobOf, Lab, MiB, memoryNode, nodeWith, pattern } from "./lab.fixture.ts";

const piece = 4096;

/** A mover's errors and writes, in order; the job's words are those of `over`. */
function logging(node: BlockNode, log: string[]): BlockNode {
  return nodeWith(node, {
    write: (buffer, offset) => {
      log.push(`write ${offset}+${buffer.length}`);
      return node.write(buffer, offset);
    },
    writeZeroes: (offset, length, unmap) => {
      log.push(`zeroes ${offset}+${length}`);
      return node.writeZeroes(offset, length, unmap);
    },
    flush: () => {
      log.push("flush");
      return node.flush();
    },
  });
}

describe("a mover", () => {
  it("copies the disk in large requests, flushes once, and says so", async () => {
    await using lab = new Lab();
    const length = 3 * MiB + 5000;
    const source = await memoryNode(length, pattern(length, 1));
    const target = await memoryNode(length);
    const { layer } = await lab.memory(length);
    const { view } = (await lab.view(layer)).memory;
    const log: string[] = [];
    const job = jobOf(view, source, logging(target, log));
    expect(new Mover(job, true, undefined).run()).toBe("copied");
    expect(difference(contentOf(target), contentOf(source))).toBe(-1);
    expect(log.at(-1)).toBe("flush");
    expect(log.filter((line) => line === "flush").length).toBe(1);
    expect(log.length).toBeLessThanOrEqual(5);
    expect(job.words[copiedClustersWord]).toBe(view.clusters);
    expect([...view.busy, ...view.copying].every((word) => word === 0)).toBe(true);
  });

  it("copies what was there at the instant, though guests overwrite it ahead of and behind the copier", async () => {
    await using lab = new Lab();
    const length = 4 * MiB;
    const old = pattern(length, 1);
    const { layer, node, guest } = await lab.memory(length);
    node.write(old, 0);
    const { view } = (await lab.view(layer, { spillMemory: 8 * MiB })).memory;
    const target = await memoryNode(length);
    let writes = 0;
    const slow = nodeWith(target, {
      write: (buffer, offset) => {
        // A guest between any two requests of the job, on both sides of where it is.
        for (const at of [offset, offset + buffer.length, length - piece - writes * 3000]) {
          if (at >= 0 && at + 9000 <= length) expect(guest.write(pattern(9000, 100 + writes++), at)).toBe(0);
        }
        return target.write(buffer, offset);
      },
    });
    expect(new Mover(jobOf(view, node, slow, { runBytesMax: 64 * 1024 }), true, undefined).run()).toBe("copied");
    expect(writes).toBeGreaterThan(10);
    expect(difference(contentOf(target), old)).toBe(-1);
    expect(difference(contentOf(node), old)).not.toBe(-1);
  });

  it("writes zeroes as zeroes: none where the target has them, holes where it has not", async () => {
    await using lab = new Lab();
    const length = MiB;
    const { layer } = await lab.memory(length);
    for (const targetIsZero of [false, true]) {
      const source = await memoryNode(length);
      source.write(pattern(65536, 1), 65536);
      source.write(new Uint8Array(piece), 5 * 65536); // written zeroes: data to the device
      const { view } = (await lab.view(layer)).memory;
      const target = await memoryNode(length, targetIsZero ? undefined : pattern(length, 7));
      const log: string[] = [];
      const job = jobOf(view, source, logging(target, log), { targetIsZero, detectZeroes: true });
      expect(new Mover(job, true, undefined).run()).toBe("copied");
      expect(difference(contentOf(target), contentOf(source))).toBe(-1);
      const bytes = (kind: string): number =>
        log.filter((line) => line.startsWith(kind)).reduce((sum, line) => sum + Number(line.split("+")[1]), 0);
      expect([bytes("write"), bytes("zeroes")]).toEqual([65536, targetIsZero ? 0 : length - 65536]);
    }
  });

  it("that only keeps what guests overwrite carries nothing else, and ends with the view", async () => {
    await using lab = new Lab();
    const length = MiB;
    const { layer, node, guest } = await lab.memory(length);
    node.write(pattern(length, 1), 0);
    const standing = await lab.view(layer);
    const { view } = standing.memory;
    const target = await memoryNode(length, pattern(length, 50));
    expect(guest.write(new Uint8Array(piece), 8 * piece)).toBe(0);
    let looks = 0;
    const job = jobOf(view, node, target);
    const over = view.over.bind(view);
    view.over = () => {
      if (++looks === 30) standing.stop();
      return over();
    };
    expect(new Mover(job, false, undefined).run()).toBe("over");
    const expected = pattern(length, 50);
    expected.set(pattern(length, 1).subarray(8 * piece, 9 * piece), 8 * piece);
    expect(difference(contentOf(target), expected)).toBe(-1);
  });

  it("leaves everything where it is when the view ends in the middle of a write", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const standing = await lab.view(layer);
    const { view } = standing.memory;
    const target = await memoryNode(MiB);
    let writes = 0;
    const source = await memoryNode(MiB, pattern(MiB, 1));
    const stopping = nodeWith(target, {
      write: (buffer, offset) => {
        if (++writes === 2) standing.stop();
        return target.write(buffer, offset);
      },
    });
    expect(new Mover(jobOf(view, source, stopping, { runBytesMax: 65536 }), true, undefined).run()).toBe("over");
    expect(writes).toBe(2);
  });

  it("does not count what it read while the view was broken", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const { view } = (await lab.view(layer)).memory;
    const plain = await memoryNode(MiB, pattern(MiB, 1));
    const source = nodeWith(plain, {
      read: (buffer, offset) => {
        view.break(1);
        return plain.read(buffer, offset);
      },
    });
    const log: string[] = [];
    expect(new Mover(jobOf(view, source, logging(await memoryNode(MiB), log)), true, undefined).run()).toBe("over");
    expect(log).toEqual([]);
    for (const bits of [view.preserved, view.copied, view.busy, view.copying])
      expect(bits.every((word) => word === 0)).toBe(true);
  });

  it("never repeats a failed flush as success", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(65536);
    const { view } = (await lab.view(layer)).memory;
    let flushes = 0;
    const target = nodeWith(await memoryNode(65536), { flush: () => (flushes++ === 0 ? EIO : 0) });
    const errors: MoverError[] = [];
    const job = jobOf(view, await memoryNode(65536, pattern(65536, 1)), target, {
      onTargetError: "ignore",
      report: (error) => errors.push(error),
    });
    expect(new Mover(job, true, undefined).run()).toBe("failed");
    expect(new Mover(job, true, undefined).run()).toBe("failed"); // the job's other thread
    expect(flushes).toBe(1);
    expect(errors).toEqual([{ operation: "flush", errno: EIO, offset: 0, action: "report" }]);
    expect(job.words[flushingWord]).not.toBe(2);
  });

  describe("that meets an error", () => {
    async function run(
      given: Partial<MoverJob>,
      sourceErrno: number,
      targetErrno: number,
      times: number,
      onReport?: (error: MoverError, job: MoverJob) => void,
    ) {
      const lab = new Lab();
      const { layer } = await lab.memory(MiB);
      const { view } = (await lab.view(layer)).memory;
      const plain = { source: await memoryNode(MiB, pattern(MiB, 1)), target: await memoryNode(MiB) };
      let left = times;
      const fails = (errno: number, offset: number, length: number): number =>
        errno !== 0 && offset <= 5 * 65536 && offset + length > 5 * 65536 && left-- > 0 ? errno : 0;
      const source = nodeWith(plain.source, {
        read: (buffer, offset) => fails(sourceErrno, offset, buffer.length) || plain.source.read(buffer, offset),
      });
      const target = nodeWith(plain.target, {
        write: (buffer, offset) => fails(targetErrno, offset, buffer.length) || plain.target.write(buffer, offset),
      });
      const errors: MoverError[] = [];
      const job: MoverJob = jobOf(view, source, target, {
        runBytesMax: 128 * 1024,
        ...given,
        report: (error) => {
          errors.push(error);
          onReport?.(error, job);
        },
      });
      const end = new Mover(job, true, undefined).run();
      const whole = Buffer.compare(contentOf(plain.target), contentOf(plain.source)) === 0;
      await lab.engine.close();
      return { end, errors, whole };
    }
    const resume = (_: MoverError, job: MoverJob): void => {
      Atomics.store(job.words, pausedWord, 0);
    };

    it("reports it and fails, by default", async () => {
      expect(await run({}, EIO, 0, 1)).toMatchObject({
        end: "failed",
        errors: [{ operation: "read", errno: EIO, action: "report" }],
      });
      const { end, errors, whole } = await run({}, 0, EIO, 1);
      expect({ end, errors, whole }).toMatchObject({
        end: "failed",
        errors: [{ operation: "write", errno: EIO, action: "report" }],
        whole: false,
      });
      expect(errors[0].offset).toBeLessThanOrEqual(5 * 65536);
      expect(errors[0].offset).toBeGreaterThanOrEqual(4 * 65536);
    });

    it("tries again, each time told, where it is ignored", async () => {
      const read = await run({ onSourceError: "ignore" }, EIO, 0, 3);
      expect({ end: read.end, whole: read.whole, errors: read.errors.length }).toEqual({
        end: "copied",
        whole: true,
        errors: 3,
      });
      const write = await run({ onTargetError: "ignore" }, 0, EIO, 3);
      expect({ end: write.end, whole: write.whole, errors: write.errors.length }).toEqual({
        end: "copied",
        whole: true,
        errors: 3,
      });
    });

    it("stops until it is resumed, and then loses nothing", async () => {
      for (const [source, target] of [
        [EIO, 0],
        [0, EIO],
      ]) {
        const { end, errors, whole } = await run(
          { onSourceError: "stop", onTargetError: "stop" },
          source,
          target,
          2,
          resume,
        );
        expect({ end, whole, actions: errors.map((error) => error.action) }).toEqual({
          end: "copied",
          whole: true,
          actions: ["stop", "stop"],
        });
      }
    });

    it("stops for a full target and fails for any other error, where enospc was asked for", async () => {
      expect(await run({ onTargetError: "enospc" }, 0, ENOSPC, 1, resume)).toMatchObject({
        end: "copied",
        whole: true,
        errors: [{ action: "stop" }],
      });
      expect(await run({ onTargetError: "enospc" }, 0, EIO, 1)).toMatchObject({
        end: "failed",
        errors: [{ action: "report" }],
      });
    });

    it("looks at the source's policy for reads and at the target's for writes", async () => {
      expect(await run({ onSourceError: "ignore", onTargetError: "report" }, 0, EIO, 1)).toMatchObject({
        end: "failed",
      });
      expect(await run({ onSourceError: "report", onTargetError: "ignore" }, EIO, 0, 1)).toMatchObject({
        end: "failed",
      });
    });
  });
});

describe("the drainer", () => {
  it("leaves what a copier is working on, and carries the rest", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const source = await memoryNode(MiB, pattern(MiB, 1));
    const { view } = (await lab.view(layer)).memory;
    const target = await memoryNode(MiB);
    preserveRange(view, source, 0, 0, 4 * piece);
    expect(view.takeCopying(0, 0b0100)).toBe(0b0100);
    const job = jobOf(view, source, target);
    const result = { drained: 0, errno: 0, offset: 0 };
    drain(job, 64, new Uint8Array(piece), result);
    expect(result).toMatchObject({ drained: 3, errno: 0 });
    expect([0, 1, 2, 3].map((cluster) => view.isCopied(cluster))).toEqual([true, true, false, true]);
    view.dropCopying(0, 0b0100);
    drain(job, 64, new Uint8Array(piece), result);
    expect(result.drained).toBe(1);
    expect(difference(contentOf(target, 0, 4 * piece), pattern(MiB, 1).subarray(0, 4 * piece))).toBe(-1);
    expect(view.spill.full).toBe(0);
  });

  it("keeps what the target would not take, and says where that was", async () => {
    await using lab = new Lab();
    const { layer } = await lab.memory(MiB);
    const source = await memoryNode(MiB, pattern(MiB, 1));
    const { view } = (await lab.view(layer)).memory;
    preserveRange(view, source, 0, 7 * piece, piece);
    const job = jobOf(view, source, nodeWith(await memoryNode(MiB), { write: () => ENOSPC }));
    const result = { drained: 0, errno: 0, offset: 0 };
    drain(job, 64, new Uint8Array(piece), result);
    expect(result).toEqual({ drained: 0, errno: ENOSPC, offset: 7 * piece });
    expect([view.spill.full, view.isCopied(7)]).toEqual([1, false]);
  });
});

describe("the scan", () => {
  it("of what is allocated retires whole units of the set that hold nothing", async () => {
    await using lab = new Lab();
    const length = 40 * 65536 + 777;
    const { layer } = await lab.memory(length);
    const source = await memoryNode(length);
    for (const at of [3 * 65536 + 5, 20 * 65536 - 1, length - 1])
      source.write(pattern(2, 1).subarray(0, Math.min(2, length - at)), at);
    const { view } = (await lab.view(layer)).memory;
    const job = jobOf(view, source, await memoryNode(length));
    while (scanStep(job, { kind: "allocated" }) !== true) {}
    const units = new Set(
      Array.from({ length: view.clusters }, (_, cluster) => cluster)
        .filter((cluster) => view.needed(cluster))
        .map((cluster) => Math.floor((cluster * piece) / 65536)),
    );
    expect([...units]).toEqual([3, 19, 20, 40]);
    expect(job.words[retiredClustersWord]).toBe(view.clusters - [3, 19, 20].length * 16 - 1);
    expect(view.copying.every((word) => word === 0)).toBe(true);
  });

  it("by a bitmap that was joined after the instant retires what is clean in it, at any granularity", async () => {
    await using lab = new Lab();
    const length = 2 * MiB;
    const { layer } = await lab.memory(length);
    for (const granularity of [512, 4096, 65536, 262144]) {
      const { bitmap } = lab.engine.recorder(length, granularity);
      bitmap.set(300_000, 1);
      const { view } = (await lab.view(layer)).memory;
      const job = jobOf(view, await memoryNode(length), await memoryNode(length));
      while (scanStep(job, { kind: "bitmap", bitmap }) !== true) {}
      const span = Math.max(65536, granularity);
      const first = Math.floor(300_000 / span) * span;
      for (let cluster = 0; cluster < view.clusters; cluster++)
        expect(view.needed(cluster)).toBe(cluster * piece >= first && cluster * piece < first + span);
    }
  });

  it("does not retire what a guest has preserved, though nothing is allocated there any more", async () => {
    await using lab = new Lab();
    const { layer, node, guest } = await lab.memory(MiB);
    node.write(pattern(65536, 1), 65536);
    const { view } = (await lab.view(layer)).memory;
    expect(guest.discard(65536, 65536)).toBe(0);
    const job = jobOf(view, node, await memoryNode(MiB));
    while (scanStep(job, { kind: "allocated" }) !== true) {}
    for (let cluster = 0; cluster < view.clusters; cluster++)
      expect(view.isRetired(cluster)).toBe(cluster < 16 || cluster >= 32);
    expect(job.words[retiredClustersWord]).toBe(view.clusters - 16);
  });

  it("leaves what a guest has preserved meanwhile: it is carried over though it need not be", async () => {
    await using lab = new Lab();
    const { layer, node, guest } = await lab.memory(MiB);
    const { view } = (await lab.view(layer)).memory;
    expect(guest.write(pattern(piece, 1), 65536)).toBe(0);
    const target = await memoryNode(MiB, pattern(MiB, 9));
    const job = jobOf(view, node, target, { scan: { kind: "allocated" } });
    expect(new Mover(job, true, undefined).run()).toBe("copied");
    expect(difference(contentOf(target, 65536, piece), new Uint8Array(piece))).toBe(-1);
    expect(difference(contentOf(target, 0, 65536), pattern(MiB, 9).subarray(0, 65536))).toBe(-1);
    expect(difference(contentOf(target, 131072), pattern(MiB, 9).subarray(131072))).toBe(-1);
  });
});
