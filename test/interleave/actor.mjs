/**
 * What a thread of a scenario works with, made anew for each schedule from the plan that the main thread wrote: the
 * engine's own classes over the shared memory.
 */
import { DiskIo } from "../../packages/engine/dist/disk-io.js";
import { Gate } from "../../packages/engine/dist/gate.js";
import { gateBytes, progressWord, slotsWord } from "../../packages/engine/dist/gate-layout.js";
import { jobWords } from "../../packages/engine/dist/job-layout.js";
import { Mover } from "../../packages/engine/dist/mover.js";
import { readView } from "../../packages/engine/dist/reader.js";
import { freeFileWord, freeMemoryWord } from "../../packages/engine/dist/spill-layout.js";
import { ThreadContext } from "../../packages/engine/dist/thread-context.js";
import { View } from "../../packages/engine/dist/view.js";
import * as block from "../../packages/block/dist/index.js";
import { SharedBitmap } from "../../packages/bitmap/dist/index.js";
import { header, operation } from "./control-words.mjs";
import { clusterSize, diskHandle, storage } from "./disks.mjs";
import { lab, original } from "./lab.mjs";

const { load } = /** @type {typeof Atomics} */ (/** @type {unknown} */ (original));
export { Gate, SharedBitmap };
/** What a mover's end is as an event. */
export const ends = { copied: 1, over: 2, failed: 3 };

/**
 * @typedef {object} Plan
 * @property {number} seed
 * @property {{ arena: number, byteOffset: number }[]} gates
 * @property {{ length: number, granularity: number, regions: { arena: number, byteOffset: number }[], disk: number, base: number }[]} recorders
 * @property {{ arena: number, byteOffset: number, disk: number, base: number, image: number, target: number }[]} views
 * @property {{ arena: number, byteOffset: number }[]} jobs
 * @property {import("../../packages/engine/dist/disk-io.js").DiskAddress[]} addresses of attached disks
 * @property {number[]} disks that have a gate
 * @property {any} extra
 */

export class Actor {
  /** @param {Plan} plan @param {import("./oracle.mjs").Oracle} oracle @param {{ registry: SharedArrayBuffer, channel: string, arenas: SharedArrayBuffer[] }} address @param {number} thread */
  constructor(plan, oracle, address, thread) {
    this.plan = plan;
    this.oracle = oracle;
    this.thread = thread;
    this.seed = plan.seed;
    this.context = ThreadContext.of(address);
    const { arenas } = this.context;
    this.views = plan.views.map((view) => View.at(view, arenas));
    this.recorders = plan.recorders.map((one) =>
      SharedBitmap.from({
        ...one,
        regions: one.regions.map((region) => ({ buffer: arenas.buffer(region.arena), byteOffset: region.byteOffset })),
      }),
    );
    this.jobs = plan.jobs.map((job) => arenas.words(job, jobWords));
    this.gates = plan.gates.map((gate) => arenas.words(gate, gateBytes / 4));
    oracle.recorders = plan.recorders.map(({ disk, base }, index) => ({ bitmap: this.recorders[index], disk, base }));
    oracle.views = plan.views.map(({ disk, base, image, target }, index) => ({
      view: this.views[index],
      disk,
      base,
      image,
      target,
    }));
    oracle.gates = this.gates;
    oracle.watched = plan.disks;
    storage.beforeWrite = (disk, offset) => oracle.beforeWrite(disk, offset);
    storage.refuseWrite = () => 0;
    lab.givenBack = (buffer, offset) => (buffer === 1 && oracle.wasGivenBack(offset) ? `offset ${offset}` : undefined);
    lab.afterOr = (offset) => {
      const error = lab.quietly(() => oracle.copiedError(offset));
      if (error !== undefined) lab.fail(error);
    };
    lab.onForced = (_buffer, offset) => this.#afterForced(offset);
  }

  /** A guest of an attached disk. @param {number} [layer] in the order in which they were attached */
  guest(layer = 0) {
    return new DiskIo(this.plan.addresses[layer], this.context, this.thread);
  }

  /** A disk below its gate. @param {number} disk @param {number} clusters @param {boolean} [direct] */
  disk(disk, clusters, direct = false) {
    return block.connectNode(diskHandle(disk, clusters * clusterSize, direct));
  }

  /** Sleeps until the main thread says `world.start`. */
  waitForStart() {
    lab.park(operation.start);
    if (((this.oracle.started >>> this.thread) & 1) === 0) lab.sleep(0, -10 - this.thread, Number.POSITIVE_INFINITY);
  }

  /** The gate itself, as this thread's. */
  gate(index = 0) {
    const gate = new Gate(this.gates[index], this.thread);
    gate.markServed();
    return gate;
  }

  /**
   * A mover of a view's job.
   * @param {{ source: number, target: number | import("@heirloom/block").BlockNode, clusters: number, sourceGate?: number, kernel?: boolean, copies?: boolean, view?: number, job?: number, runClusters?: number, detectZeroes?: boolean, targetIsZero?: boolean, scan?: { kind: "allocated" }, onTargetError?: string }} options
   */
  mover({
    source,
    target,
    clusters,
    sourceGate = 0,
    kernel = false,
    copies = true,
    view = 0,
    job = 0,
    runClusters = 1,
    detectZeroes = false,
    targetIsZero = false,
    scan,
    onTargetError = "report",
  }) {
    this.gate(sourceGate);
    const length = clusters * clusterSize;
    const end = new Mover(
      {
        words: this.jobs[job],
        view: this.views[view],
        source: block.connectNode(diskHandle(source, length, kernel)),
        target: typeof target === "number" ? block.connectNode(diskHandle(target, length, kernel)) : target,
        targetIsZero,
        runBytesMax: runClusters * clusterSize,
        detectZeroes,
        scan,
        onSourceError: "report",
        onTargetError: /** @type {"report"} */ (onTargetError),
        report: () => {},
      },
      copies,
      undefined,
    );
    return () => ends[end.run()];
  }

  /** Reads a cluster of a view. @param {number} view @param {Uint8Array} buffer @param {number} cluster @param {{ source: number, target?: number, clusters: number }} where */
  readView(view, buffer, cluster, { source, target, clusters }) {
    const length = clusters * clusterSize;
    const node = block.connectNode(diskHandle(source, length));
    const to = target === undefined ? undefined : block.connectNode(diskHandle(target, length));
    return readView(this.views[view], node, this.plan.views[view].base, to, buffer, cluster * clusterSize);
  }

  /** This thread was woken by a time-out because nobody else could run: then nobody may have forgotten to wake it. @param {number} offset */
  #afterForced(offset) {
    if (lab.words[header.killed] !== 0) return;
    for (const view of this.views) {
      const word = (offset - view.busy.byteOffset) / 4;
      if (word >= 0 && word < view.busy.length && load(view.busy, word) === 0)
        lab.fail("a thread sleeps for a claim that was released");
    }
    for (const gate of this.gates) {
      const word = (offset - gate.byteOffset) / 4;
      if (word >= slotsWord && word < gate.length && load(gate, word) === 0)
        lab.fail("the gatekeeper sleeps for a slot that is empty");
      if (word !== progressWord) continue;
      const crowded = lab.quietly(() =>
        this.views.some(
          (view) =>
            !view.over() && load(view.spill.words, freeMemoryWord) <= 0 && load(view.spill.words, freeFileWord) <= 0,
        ),
      );
      if (this.views.length > 0 && !crowded)
        lab.fail("a guest sleeps for room in the spill while there is room in every view");
    }
  }
}

/** A cluster's worth of one number. @param {number} value */
export function fill(value) {
  const words = new Int32Array(clusterSize / 4).fill(value);
  return new Uint8Array(words.buffer);
}
