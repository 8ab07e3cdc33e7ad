/** What happens to a disk between two rounds, while nobody writes: it is resized, or detached and attached again. */
import * as board from "./board.mjs";
import { dirty, firstWrong, granuleCount, mark } from "./granules.mjs";
import { sleep } from "./job-run.mjs";
import { SharedSectors } from "./sectors.mjs";

/**
 * Grown space reads as zeroes and is clean, except where the bitmap's checkpoint had something else; a shrunk bitmap keeps its
 * partial last granule. @param {import("./round.mjs").Round} round @param {{ disk: number, length: number }} plan
 */
export async function resize(round, plan) {
  const { epoch } = round;
  const disk = epoch.disks[plan.disk];
  const before = disk.length;
  if (!(await withoutThreads(round, disk, () => disk.disk.resize(plan.length)))) return;
  for (const writer of epoch.crew.members.keys()) epoch.crew.give(writer, [disk]);
  if (disk.disk.length !== plan.length || disk.length !== plan.length)
    round.fail("a resize has another length as its result", { disk: disk.name, plan, has: disk.length });
  Atomics.store(epoch.control, board.lengthFlag(disk.index), plan.length);
  forget(epoch, disk, Math.min(before, plan.length));
  if (plan.length < before) new SharedSectors(epoch.shared.disks[disk.index], []).endsAt(plan.length);
  for (const model of epoch.bitmaps.values()) {
    if (model.ref.disk !== disk.index) continue;
    const granules = new Uint8Array(granuleCount(plan.length, model.granularity));
    granules.set(model.granules.subarray(0, granules.length));
    model.granules = granules;
    model.length = plan.length;
    // What was cut off and is grown again is no more what it was.
    const back = Math.min(plan.length, model.cutFrom) - before;
    if (back > 0) mark(granules, model.granularity, before, back, dirty);
    if (plan.length < before && model.recording) model.cutFrom = Math.max(model.cutFrom, before);
    if (model.checkpoint !== undefined) model.checkpoint = extended(model.checkpoint, plan.length);
    const wrong = firstWrong(granules, model.says(disk.disk.bitmaps.serialize(model.ref.name)));
    if (wrong !== undefined)
      round.fail("a resized bitmap says something else", {
        bitmap: model.label,
        before,
        length: plan.length,
        granularity: model.granularity,
        ...wrong,
      });
  }
}

/** What lay beyond is gone. @param {import("./epoch.mjs").Epoch} epoch @param {import("./test-disk.mjs").TestDisk} disk @param {number} from */
function forget(epoch, disk, from) {
  const shared = epoch.shared.disks[disk.index];
  new Uint8Array(shared.expected).fill(0, from);
  new Int32Array(shared.acked).fill(0, Math.floor(from / board.sectorBytes));
}

/** A checkpoint is never cut: it says what was there. @param {Uint8Array} image @param {number} length */
function extended(image, length) {
  if (image.length >= length) return image;
  const copy = Buffer.alloc(length);
  copy.set(image);
  return copy;
}

export class Reattach {
  /** @param {import("./round.mjs").Round} round @param {import("./test-disk.mjs").TestDisk} disk */
  constructor(round, disk) {
    this.round = round;
    this.disk = disk;
  }

  /** Refused while threads have it open; then it goes, with its bitmaps, and comes back without. */
  async run() {
    const { round, disk } = this;
    const { epoch } = round;
    if (!(await withoutThreads(round, disk, () => disk.disk.detach()))) return;
    disk.attached = undefined;
    for (const label of epoch.bitmaps.keys()) if (label.startsWith(`${disk.index}/`)) epoch.bitmaps.delete(label);
    await epoch.attach(disk);
    for (const writer of epoch.crew.members.keys()) epoch.crew.give(writer, [disk]);
  }
}

/**
 * Something that is refused while threads have the disk open, and done when they have closed it.
 * @param {import("./round.mjs").Round} round @param {import("./test-disk.mjs").TestDisk} disk @param {() => Promise<void>} work
 * @returns {Promise<boolean>} whether it was done
 */
async function withoutThreads(round, disk, work) {
  const { crew } = round.epoch;
  const refused = await codeOf(work());
  if (refused !== "ERR_DISK_IN_USE") {
    round.fail("a disk was resized or detached though threads have it open", { disk: disk.name, refused });
    return false;
  }
  crew.takeAway(disk.index);
  let code = await codeOf(work());
  for (let tries = 0; tries < 2000 && code !== undefined; tries++) {
    await sleep(10);
    code = await codeOf(work());
  }
  if (code !== undefined)
    round.fail("a disk that no thread has open is not resized or detached", { disk: disk.name, code });
  return code === undefined;
}

/** @param {Promise<unknown>} work @returns {Promise<string | undefined>} */
async function codeOf(work) {
  try {
    await work;
    return undefined;
  } catch (error) {
    return /** @type {{ code?: string }} */ (error).code ?? String(error);
  }
}
