/**
 * A point in time that the stress reads itself, while guests write: made when all is quiet, so that what it must hold is known;
 * then `success` or `fail`.
 */
import * as board from "./board.mjs";
import { clean } from "./granules.mjs";
import { firstDifference } from "./guest.mjs";
import { sleep } from "./job-run.mjs";
import { roundToClusters } from "./restore.mjs";

const clusterSize = 65536;
/** A read outside of what the view has. */
const eacces = 13;

export class ViewRun {
  /** @param {import("./plan.mjs").ViewPlan} plan @param {import("./round.mjs").Round} round */
  constructor(plan, round) {
    this.plan = plan;
    this.round = round;
    this.random = round.epoch.random.fork(`view ${round.epoch.round}`);
    /** @type {Uint8Array} */
    this.image = new Uint8Array(0);
    /** @type {Uint8Array | undefined} */
    this.granules = undefined;
    this.granularity = clusterSize;
    this.broken = false;
    /** @type {import("../../packages/runtime/dist/index.js").View | undefined} */
    this.view = undefined;
  }

  get disk() {
    return this.round.epoch.disks[this.plan.disk];
  }

  async begin() {
    const { plan, round } = this;
    const { epoch } = round;
    const exists = plan.bitmap === undefined || epoch.bitmaps.has(`${plan.disk}/${plan.bitmap}`);
    if (!exists) return;
    this.view = this.disk.disk.view({
      ...(plan.bitmap === undefined ? {} : { bitmap: plan.bitmap, all: plan.all }),
      guestDelayMax: 20,
      spill: { memory: plan.spillMemory, file: 0 },
    });
    await this.view.ready;
    this.image = this.disk.image();
    epoch.tally.views++;
    if (plan.bitmap === undefined) return;
    const at = board.tick(epoch.control);
    round.commands.push({
      from: at,
      to: at,
      kind: "freeze",
      ref: { disk: plan.disk, name: plan.bitmap },
      image: this.image,
      bits: undefined,
      onFreeze: () => {},
    });
    const model = epoch.bitmaps.get(`${plan.disk}/${plan.bitmap}`);
    this.granules = model?.granules.slice();
    this.granularity = model?.granularity ?? clusterSize;
  }

  async run() {
    const { plan, round, view } = this;
    if (view === undefined) return;
    const until = board.clock() + plan.readsMs;
    await this.#extents(view);
    const reads = async () => {
      while (board.clock() < until && !this.broken) await this.#read(view);
    };
    await Promise.all(Array.from({ length: 4 }, reads));
    // Whatever was read first reads the same at the end.
    if (!this.broken) await this.#read(view);
    const success = await this.#end(view);
    if (plan.bitmap === undefined) return;
    const at = board.tick(round.epoch.control);
    round.commands.push({
      from: at,
      to: at,
      kind: "end",
      ref: { disk: plan.disk, name: plan.bitmap },
      outcome: success ? "W" : "P|W",
      uncopied: undefined,
    });
  }

  /** @param {import("../../packages/runtime/dist/index.js").View} view */
  async #extents(view) {
    const { granules, granularity, image } = this;
    if (granules === undefined) return;
    const seen = new Uint8Array(granules.length);
    for await (const { offset, length } of view.extents())
      seen.fill(1, offset / granularity, Math.ceil((offset + length) / granularity));
    const at = firstDifference(
      seen,
      granules.map((one) => (one === clean ? 0 : 1)),
    );
    if (at !== -1)
      this.round.fail("a view's extents are not what its bitmap said", {
        granule: at,
        granularity,
        length: image.length,
      });
  }

  /** @param {import("../../packages/runtime/dist/index.js").View} view */
  async #read(view) {
    const { random, image, round, plan } = this;
    const length = Math.min(image.length, random.spread(1, 512 * 1024));
    const offset = random.int(0, image.length - length);
    const data = new Uint8Array(length);
    const inside = this.#inside(offset, length);
    try {
      await view.read(data, offset);
    } catch (thrown) {
      const error = /** @type {Error & { cause?: { code?: string }, errno?: number }} */ (thrown);
      if (error.errno === eacces && !inside) return;
      this.broken = true;
      const small = plan.spillMemory < image.length;
      const allowed =
        error.cause?.code === "ERR_THREAD_DIED"
          ? round.deadly
          : small || round.deadly || round.plan.source !== undefined;
      if (!allowed) round.unexpected("a read of a view", error);
      return;
    }
    if (!inside) round.fail("a view limited to a bitmap answered a read outside of it", { offset, length });
    const at = firstDifference(data, image.subarray(offset, offset + length));
    if (at !== -1)
      round.fail("I2: a view reads something else than the disk at the freeze", {
        offset: offset + at,
        view: data[at],
        frozen: image[offset + at],
      });
    round.epoch.tally.checked("I2");
    await sleep(0);
  }

  /** @param {number} offset @param {number} length */
  #inside(offset, length) {
    if (this.granules === undefined || this.plan.all) return true;
    const clusters = roundToClusters(this.granules, this.granularity, clusterSize, this.image.length);
    return !clusters.subarray(Math.floor(offset / clusterSize), Math.ceil((offset + length) / clusterSize)).includes(0);
  }

  /** @param {import("../../packages/runtime/dist/index.js").View} view @returns {Promise<boolean>} whether it was a success */
  async #end(view) {
    if (!this.plan.succeeds) {
      await view.fail();
      return false;
    }
    try {
      await view.success();
      return true;
    } catch (error) {
      if (/** @type {{ code?: string }} */ (error).code !== "ERR_VIEW_BROKEN") throw error;
      const small = this.plan.spillMemory < this.image.length;
      if (!small && !this.round.deadly && this.round.plan.source === undefined)
        this.round.unexpected("the success of a view", error);
      return false;
    }
  }
}
