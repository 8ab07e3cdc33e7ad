/** What is checked when all is quiet: bitmaps against the model, images against what guests wrote, groups, memory. */
import * as board from "./board.mjs";
import { dirty } from "./granules.mjs";
import { firstDifference } from "./guest.mjs";
import { sleep } from "./job-run.mjs";
import { SharedSectors } from "./sectors.mjs";
import { sharedOwner } from "./stripes.mjs";

/**
 * @param {import("./round.mjs").Round} round @param {import("./replay.mjs").Replay} replay
 * @param {{ disk: number, offset: number, length: number }[]} cutOff requests that a death cut off
 */
export async function checkQuiet(round, replay, cutOff) {
  const { epoch } = round;
  const images = epoch.disks.map((disk) => disk.image());
  for (const disk of epoch.disks) {
    checkBitmaps(round, replay, disk, images[disk.index]);
    if (!disk.mirror)
      checkGuests(
        round,
        disk,
        images[disk.index],
        cutOff.filter((one) => one.disk === disk.index),
      );
  }
  checkLedgers(round, images);
  await checkMemory(round);
}

/** I1, I5. @param {import("./round.mjs").Round} round @param {import("./replay.mjs").Replay} replay @param {import("./test-disk.mjs").TestDisk} disk @param {Uint8Array} image */
function checkBitmaps(round, replay, disk, image) {
  const { epoch } = round;
  const infos = disk.disk.bitmaps.list();
  const models = [...epoch.bitmaps.values()].filter((model) => model.ref.disk === disk.index);
  if (infos.length !== models.length)
    round.fail("bitmaps are there that should not be, or the other way round", {
      disk: disk.name,
      has: infos.map(({ name }) => name),
      expected: models.map((model) => model.ref.name),
    });
  for (const model of models) {
    const info = infos.find(({ name }) => name === model.ref.name);
    if (info === undefined) continue;
    const actual = model.says(disk.disk.bitmaps.serialize(info.name));
    replay.judge(model, actual, image);
    const count = actual.reduce((sum, one) => sum + (one === dirty ? model.granularity : 0), 0);
    const wrong =
      info.count !== count || info.recording !== model.recording || info.busy || info.granularity !== model.granularity;
    if (wrong)
      round.fail("I5: a bitmap with no job is not as it should be", {
        bitmap: model.label,
        info,
        count,
        recording: model.recording,
      });
    model.granules = actual;
    epoch.tally.checked("I1");
    epoch.tally.checked("I5");
  }
}

/** I3 for all of the disk. @param {import("./round.mjs").Round} round @param {import("./test-disk.mjs").TestDisk} disk @param {Uint8Array} image @param {{ offset: number, length: number }[]} cutOff */
function checkGuests(round, disk, image, cutOff) {
  const { shared } = round.epoch;
  const expected = new Uint8Array(shared.disks[disk.index].expected);
  const sectors = new SharedSectors(shared.disks[disk.index], shared.writers);
  // Of what was cut off nobody knows; from now on it is what it is.
  for (const { offset, length } of cutOff) expected.set(image.subarray(offset, offset + length), offset);
  for (const stripe of disk.plan.stripes) {
    const end = Math.min(stripe.offset + stripe.length, image.length);
    if (end <= stripe.offset) continue;
    const data = image.subarray(stripe.offset, end);
    if (stripe.owner >= 0) {
      const at = firstDifference(data, expected.subarray(stripe.offset, end));
      if (at !== -1)
        round.fail("I3: the image is not what its writer wrote", {
          disk: disk.name,
          writer: stripe.owner,
          at: stripe.offset + at,
          image: data[at],
        });
    } else if (stripe.owner === sharedOwner) {
      const length = data.length - (data.length % board.sectorBytes);
      const whole = Uint8Array.prototype.slice.call(data, 0, length);
      const wrong = sectors.check(whole, stripe.offset, sectors.before(stripe.offset, length));
      if (wrong !== undefined)
        round.fail("I3: a shared sector of the image is not the last write", {
          disk: disk.name,
          at: wrong.offset,
          why: wrong.text,
        });
    }
  }
  round.epoch.tally.checked("I3");
}

/** I6: every set of images of one instant is one cut. @param {import("./round.mjs").Round} round @param {Uint8Array[]} images now */
function checkLedgers(round, images) {
  const { epoch } = round;
  const check = (/** @type {Map<number, Uint8Array>} */ set, /** @type {string} */ what) => {
    const counters = epoch.guestDisks.flatMap((disk, at) => {
      const image = set.get(disk.index);
      return image === undefined
        ? []
        : [
            {
              disk: disk.name,
              counter: Buffer.from(image.buffer, image.byteOffset).readUInt32LE(epoch.ledgerPlaces?.[at] ?? 0),
            },
          ];
    });
    for (let at = 0; at < counters.length; at++) {
      const wrong = counters
        .slice(at + 1)
        .some(({ counter }) => counter > counters[at].counter || counter < counters[at].counter - 1);
      if (wrong) round.fail("I6: images of one instant are not one cut", { what, counters });
    }
    if (counters.length > 1) epoch.tally.checked("I6");
  };
  check(new Map(images.entries()), "quiet disks");
  const groups = new Map();
  for (const run of round.runs) {
    const instant = epoch.instants.get(run.plan.id);
    if (!run.grouped || run.result?.status !== "completed" || instant === undefined) continue;
    groups.set(instant.at, (groups.get(instant.at) ?? new Map()).set(run.plan.disk, restoredOf(run)));
  }
  for (const restored of groups.values()) check(restored, "a restored group");
}

/** @param {import("./job-run.mjs").JobRun} run @returns {Uint8Array} */
function restoredOf(run) {
  const target = run.targetImage();
  if (run.plan.sync === "full" || run.plan.sync === "top") return target;
  const base = Buffer.from(run.checkpoint ?? run.frozen ?? target);
  for (const { offset, length } of run.extents ?? []) target.copy(base, offset, offset, offset + length);
  return base;
}

/** I8: shared memory comes back to what it was with the same disks and bitmaps. @param {import("./round.mjs").Round} round */
async function checkMemory(round) {
  const { epoch } = round;
  const models = [...epoch.bitmaps.values()];
  const key = JSON.stringify(
    models.map(({ ref, granularity, length, recording }) => [ref.disk, granularity, length, recording]).sort(),
  );
  const before = epoch.idleMemory.get(key);
  const limit = before ?? idleCeiling(epoch);
  const shared = () => epoch.runtime.inspect().memory.shared;
  // Threads that have just ended let go a little later.
  for (let tries = 0; tries < 1000 && shared() > limit && !epoch.leaked; tries++) await sleep(10);
  const now = shared();
  if (now > limit && !epoch.leaked)
    round.fail("I8: shared memory does not come back", { idleBefore: before, limit, idleNow: now });
  if (!epoch.leaked) epoch.idleMemory.set(key, now);
  epoch.tally.checked("I8");
}

/** The smallest cluster of a view, bytes. */
const clusterSizeMin = 4096;

/**
 * I8's ceilings: what the bitmaps and views of a round may take, each piece rounded up to a power of two as the arenas do.
 * @param {import("./round.mjs").Round} round @returns {number} bytes
 */
export function memoryCeiling(round) {
  const { epoch } = round;
  const view = (/** @type {number} */ length, /** @type {{ memory: number, file: number }} */ spill) => {
    const clusters = Math.ceil(length / clusterSizeMin);
    const slots = spill.memory / clusterSizeMin + Math.min(clusters, spill.file / clusterSizeMin) + zeroSlots;
    // Five bits a cluster; the spill's bytes; a few words a slot; the job's own words.
    return piece(4096 + (5 * clusters) / 8) + piece(spill.memory) + piece(4096 + slots * slotBytes) + 2 * piece(4096);
  };
  let sum = idleCeiling(epoch);
  for (const job of round.jobs) {
    sum += view(
      epoch.disks[job.disk].plan.lengthMax,
      /** @type {{ spill: { memory: number, file: number } }} */ (job.options).spill,
    );
  }
  const { view: reader } = round.plan;
  if (reader !== undefined)
    sum += view(epoch.disks[reader.disk].plan.lengthMax, { memory: reader.spillMemory, file: 0 });
  for (const { actions } of round.plan.transactions) {
    for (const action of actions) {
      if (!("command" in action) || action.command.type !== "add") continue;
      sum += 2 * 2 * piece(1024 + epoch.disks[action.command.disk].plan.lengthMax / action.command.granularity / 8);
    }
  }
  return sum;
}

/** The same with no job and no view. @param {import("./epoch.mjs").Epoch} epoch @returns {number} bytes */
function idleCeiling(epoch) {
  let sum = 0;
  for (const disk of epoch.disks) {
    sum += piece(32 * 1024) + 2 * piece(16 * 1024); // gate, table in force, table to come
    sum += piece(participants * counterLineBytes); // what each guest of it has asked for
    const models = [...epoch.bitmaps.values()].filter((model) => model.ref.disk === disk.index);
    // size / granularity / 8 bytes and a summary; then an heir, and an old layer that is folded.
    for (const model of models) sum += 3 * 2 * piece(1024 + model.granules.length / 8);
  }
  return sum;
}

/** What an arena gives for so many bytes. @param {number} bytes */
function piece(bytes) {
  return 2 ** Math.ceil(Math.log2(Math.max(512, bytes)));
}

const zeroSlots = 4096;
/** Guests that there can be at once, and what each has of a disk's counters. */
const participants = 512;
const counterLineBytes = 192;
const slotBytes = 32;

/** I8 while jobs run. @param {import("./round.mjs").Round} round */
export function checkCeiling(round) {
  const { epoch } = round;
  if (epoch.leaked) return;
  const { shared } = epoch.runtime.inspect().memory;
  epoch.tally.sharedMax = Math.max(epoch.tally.sharedMax, shared);
  if (shared > round.memoryMax)
    round.fail("I8: shared memory is above what bitmaps, views and spills may take", {
      bytes: shared,
      ceiling: round.memoryMax,
    });
}
