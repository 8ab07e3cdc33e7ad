/**
 * Rows 1 and 2: how fast a backup copies, beside qemu-storage-daemon's and beside a bare loop of copy_file_range on one thread,
 * all three in turn on the same pair of files. Command to completion.
 *
 * What is compared does the same work. A job of ours says that it is done when its target is flushed; qemu-storage-daemon's
 * does not flush. So on a disk there are two figures: `page cache`, where nobody flushes, and `flushed`, where all three do.
 */
import { closeSync, fdatasyncSync, fsyncSync, openSync } from "node:fs";
import { copyFully, createRuntime } from "../heirloom.mjs";
import { missing } from "../peers/installed.mjs";
import { writeAt } from "../peers/nbd-tools.mjs";
import { QemuStorageDaemon } from "../peers/qemu-storage-daemon.mjs";
import { median } from "../sampling.mjs";
import { noise, scatteredExtents, Stage } from "../stage.mjs";

const clusterSize = 65536;
const noFlush = new URL("../no-flush.mjs", import.meta.url).href;
/** The kernel copies at most this much in one call. */
const callBytesMax = 2 ** 30;

export const name = "copy";
export const title = "a backup, command to completion";

export async function* figures({ quick }) {
  const length = (quick ? 0.5 : 2) * 2 ** 30;
  const rounds = quick ? 3 : 7;
  for (const kind of ["disk", "tmpfs"]) {
    const stage = new Stage(kind);
    let pair;
    try {
      pair = await Pair.open(stage, length);
      for (const sync of ["incremental", "full"]) {
        for (const flushed of kind === "disk" ? [false, true] : [false]) {
          yield* figure(await pair.measure(sync, flushed, rounds), { sync, flushed, kind, length });
        }
      }
    } finally {
      await pair?.close();
      stage.close();
    }
  }
}

function* figure(measured, { sync, flushed, kind, length }) {
  const { ours, theirs, bare, ratioTheirs, ratioBare, bytes } = measured;
  const place = kind === "tmpfs" ? "tmpfs" : flushed ? "disk, flushed" : "disk, page cache";
  const what = `${sync}, ${sync === "full" ? "" : "25 % of "}${length / 2 ** 30} GiB, ${place}`;
  const reachedTheirs = ratioTheirs >= 2.5;
  const reachedBare = ratioBare >= 0.85;
  const reached = reachedTheirs || reachedBare;
  const row = `${name}-${sync}-${kind}${flushed ? "-flushed" : ""}`;
  const note = `${(bytes / 2 ** 20).toFixed(0)} MiB a round; median of rounds`;
  yield {
    row,
    what,
    ours,
    unit: "MB/s",
    peer: theirs,
    peerName: measured.why ?? "qemu-storage-daemon",
    ratio: ratioTheirs,
    bar: ">= 2.5 times, or the next line",
    reached,
  };
  yield {
    row,
    what: "",
    ours,
    unit: "MB/s",
    peer: bare,
    peerName: "copy_file_range, 1 thread",
    ratio: ratioBare,
    bar: ">= 0.85, or the line above",
    reached,
    note,
  };
}

/** Two files of one length, open in ours and in the peer at once, so that rounds can take turns. */
class Pair {
  static async open(stage, length) {
    const pair = new Pair();
    pair.length = length;
    const source = stage.filled("source.raw", length);
    pair.target = stage.filled("target.raw", length);
    pair.extents = scatteredExtents(length, clusterSize, 0.25);
    pair.sourceFd = openSync(source, "r");
    pair.targetFd = openSync(pair.target, "r+");
    pair.runtime = createRuntime();
    pair.disk = await pair.runtime.attach({ driver: "file", filename: source, locking: "off" });
    await pair.disk.bitmaps.add("daily", { granularity: clusterSize });
    pair.why = missing("qemu-storage-daemon", "qemu-io");
    if (pair.why === undefined) {
      pair.peer = await QemuStorageDaemon.start(stage);
      await pair.peer.addFile("source", source);
      await pair.peer.addFile("target", pair.target);
      await pair.peer.execute("block-dirty-bitmap-add", { node: "source", name: "daily", granularity: clusterSize });
      await writeAt(await pair.peer.export("source"), pair.#clusters());
    }
    return pair;
  }

  /** Rounds of the three in turn; the first is not counted. */
  async measure(sync, flushed, rounds) {
    const extents = sync === "full" ? [{ offset: 0, length: this.length }] : this.extents;
    const bytes = extents.reduce((sum, extent) => sum + extent.length, 0);
    const times = { ours: [], theirs: [], bare: [] };
    for (let round = 0; round <= rounds; round++) {
      await this.#prepare(sync);
      const ours = await this.#runOurs(sync, flushed);
      this.#settle();
      const theirs = await this.#runTheirs(sync, flushed);
      this.#settle();
      const bare = this.#runBare(extents, flushed);
      this.#settle();
      if (round === 0) continue;
      times.ours.push(ours);
      times.theirs.push(theirs);
      times.bare.push(bare);
    }
    const rate = (ms) => bytes / 1000 / ms;
    const ratio = (others) => median(times.ours.map((ours, at) => others[at] / ours));
    return {
      bytes,
      ours: rate(median(times.ours)),
      theirs: this.why === undefined ? rate(median(times.theirs)) : undefined,
      bare: rate(median(times.bare)),
      ratioTheirs: this.why === undefined ? ratio(times.theirs) : undefined,
      ratioBare: ratio(times.bare),
      why: this.why,
    };
  }

  async close() {
    await this.peer?.stop();
    await this.runtime.close();
    closeSync(this.sourceFd);
    closeSync(this.targetFd);
  }

  #clusters() {
    return this.extents.flatMap(({ offset, length }) =>
      Array.from({ length: length / clusterSize }, (_, at) => offset + at * clusterSize),
    );
  }

  /** The same clusters dirty in our bitmap as in the peer's (which a backup with bitmap-mode never leaves as it is). */
  async #prepare(sync) {
    if (sync === "full") return;
    await this.disk.bitmaps.clear("daily");
    const block = noise(4096, 5);
    const offsets = this.#clusters();
    for (let at = 0; at < offsets.length; at += 256) {
      await Promise.all(offsets.slice(at, at + 256).map((offset) => this.disk.write(block, offset)));
    }
    fsyncSync(this.sourceFd);
  }

  async #runOurs(sync, flushed) {
    const file = { driver: "file", filename: this.target, locking: "off" };
    const target = flushed ? file : { driver: noFlush, file };
    const begin = performance.now();
    const job = await this.runtime.backup({
      disk: this.disk,
      target,
      sync,
      ...(sync === "full" ? {} : { bitmap: "daily" }),
    });
    const result = await job.done;
    const elapsedMs = performance.now() - begin;
    if (result.status !== "completed") throw new Error(`backup: ${result.error}`);
    return elapsedMs;
  }

  async #runTheirs(sync, flushed) {
    if (this.peer === undefined) return Number.NaN;
    const which = sync === "full" ? { sync } : { sync: "bitmap", bitmap: "daily", "bitmap-mode": "never" };
    const copiedMs = await this.peer.backup({ device: "source", target: "target", ...which });
    return copiedMs + (flushed ? this.#flush() : 0);
  }

  #runBare(extents, flushed) {
    const begin = performance.now();
    for (const { offset, length } of extents) {
      for (let done = 0; done < length; done += callBytesMax) {
        const piece = Math.min(callBytesMax, length - done);
        const errno = copyFully(this.sourceFd, offset + done, this.targetFd, offset + done, piece);
        if (errno !== 0) throw new Error(`copy_file_range: errno ${errno}`);
      }
    }
    const copiedMs = performance.now() - begin;
    return copiedMs + (flushed ? this.#flush() : 0);
  }

  #flush() {
    const begin = performance.now();
    fdatasyncSync(this.targetFd);
    return performance.now() - begin;
  }

  /** What the last one left to be written is not the next one's burden. */
  #settle() {
    fdatasyncSync(this.targetFd);
  }
}
