/** Every crash of one recorded run with resumable jobs: of sidecar, spill, image and target at once. */
import { readSidecar } from "../../packages/journal/dist/recover.js";
import { check } from "./check.mjs";
import { checkJob } from "./check-job.mjs";
import { CrashedStorage, sectorBytes } from "./recording.mjs";

/** So many sectors that were not synced: every subset. More: a sample, and those that differ from all or nothing by one. */
const allSubsetsMax = 7;
const sampledSubsets = 24;

/**
 * @param {import("./world.mjs").World} world after its run
 * @param {import("../stress/random.mjs").Random} random
 * @param {number} markedMax
 * @param {"kills" | "losses" | undefined} only these
 * @returns {{ kills: number, losses: number, resumedKills: number, resumedLosses: number }} states that were checked, and those of
 *   them after which a resumable job goes on
 */
export function enumerateJobs(world, random, markedMax, only) {
  const { log } = world.recorder;
  const counts = { kills: 0, losses: 0, resumedKills: 0, resumedLosses: 0 };
  /** The sidecar, and a job's spill, as a kill leaves them, and as they were at their last sync. */
  const cached = world.base.slice();
  const durable = world.base.slice();
  let spill = new Uint8Array(0);
  let spillDurable = new Uint8Array(0);
  /** @type {Sector[]} */
  let unsynced = [];
  /** @type {Sector[]} */
  let spilled = [];
  const image = new Versions();
  const target = new Versions();
  for (let at = 0; at <= log.length; at++) {
    const model = at < log.length ? log[at].model : world.model;
    const look = (
      /** @type {any} */ storage,
      /** @type {Uint8Array} */ kept,
      /** @type {boolean} */ lost,
      /** @type {string} */ what,
    ) => {
      if (only === (lost ? "kills" : "losses")) return;
      const onDisk = (/** @type {number} */ granule) => (lost ? image.possible(granule) : [image.now(granule)]);
      const onTarget = (/** @type {number} */ granule) => (lost ? target.possible(granule) : [target.now(granule)]);
      try {
        check(storage, model, { lost, markedMax, versions: image.since });
        const after = { lost, versions: image.since, spill: kept, onDisk, onTarget };
        const job = checkJob(storage, readSidecar(storage, "test"), model, after);
        counts[lost ? "losses" : "kills"]++;
        if (job === "goes on") counts[lost ? "resumedLosses" : "resumedKills"]++;
      } catch (error) {
        throw new Error(`${/** @type {Error} */ (error).message} (after ${at} of ${log.length} steps, ${what})`, {
          cause: error,
        });
      }
    };
    look(new CrashedStorage(cached, new Map()), spill, false, "killed");
    const step = log[at];
    if (
      (step?.file === "journal" || step?.file === "spill") &&
      step.type === "write" &&
      step.bytes.length > sectorBytes
    ) {
      for (const count of tears(step.bytes.length / sectorBytes)) {
        const torn = sectorsOf(step).slice(0, count);
        const what = `killed in a write after ${count} sectors`;
        if (step.file === "spill") look(new CrashedStorage(cached, new Map()), withSectors(spill, torn), false, what);
        else look(new CrashedStorage(cached, mapOf(torn)), spill, false, what);
      }
    }
    for (const subset of only === "kills" ? [] : subsets(unsynced.length, random)) {
      const sectors = mapOf(unsynced.filter((_sector, index) => subset[index]));
      const kept = withSectors(spillDurable, part(spilled, random));
      const what = `power loss with ${sectors.size} of ${unsynced.length} sectors`;
      look(new CrashedStorage(durable, sectors), kept, true, what);
    }
    if (step === undefined) break;
    if (step.file === "image") image.take(step);
    else if (step.file === "target") target.take(step);
    else if (step.file === "spill") {
      if (step.type === "make") {
        spill = step.bytes.slice();
        spillDurable = step.bytes.slice(); // it is synced when it is made
        spilled = [];
      } else if (step.type === "sync") {
        spillDurable.set(spill);
        spilled = [];
      } else {
        spill.set(step.bytes, step.offset);
        spilled.push(...sectorsOf(step));
      }
    } else if (step.type === "sync") {
      durable.set(cached);
      unsynced = [];
    } else {
      cached.set(step.bytes, step.offset);
      unsynced.push(...sectorsOf(step));
    }
  }
  return counts;
}

/** @typedef {{ sector: number, bytes: Uint8Array }} Sector */

/** What each granule of a disk held at its last sync, and what it may hold now. */
class Versions {
  constructor() {
    /** @type {Map<number, Set<number>>} */
    this.since = new Map();
    /** @type {Map<number, number>} */
    this.current = new Map();
  }
  /** @param {number} granule */
  now(granule) {
    return this.current.get(granule) ?? 0;
  }
  /** @param {number} granule */
  possible(granule) {
    return this.since.get(granule) ?? [this.now(granule)];
  }
  /** @param {{ type: "sync" } | { type: "write", granule: number, version: number }} step */
  take(step) {
    if (step.type === "sync") {
      this.since = new Map([...this.current].map(([granule, version]) => [granule, new Set([version])]));
      return;
    }
    const before = this.since.get(step.granule) ?? new Set([this.now(step.granule)]);
    this.since.set(step.granule, before.add(step.version));
    this.current.set(step.granule, step.version);
  }
}

/** @param {readonly Sector[]} sectors */
function mapOf(sectors) {
  return new Map(sectors.map(({ sector, bytes }) => [sector, bytes]));
}
/** @param {Uint8Array} base @param {readonly Sector[]} sectors */
function withSectors(base, sectors) {
  const bytes = base.slice();
  for (const one of sectors) bytes.set(one.bytes, one.sector * sectorBytes);
  return bytes;
}
/** All, none, or some. @param {readonly Sector[]} sectors @param {import("../stress/random.mjs").Random} random */
function part(sectors, random) {
  const kind = random.int(0, 3);
  if (kind === 0) return [];
  return kind === 1 ? sectors : sectors.filter(() => random.chance(kind === 2 ? 50 : 90));
}

/** @param {{ offset: number, bytes: Uint8Array }} write */
function sectorsOf({ offset, bytes }) {
  return Array.from({ length: bytes.length / sectorBytes }, (_, index) => ({
    sector: offset / sectorBytes + index,
    bytes: bytes.subarray(index * sectorBytes, (index + 1) * sectorBytes),
  }));
}

/** @param {number} count */
function tears(count) {
  return count <= 4 ? Array.from({ length: count - 1 }, (_, index) => index + 1) : [1, 2, count >>> 1, count - 1];
}

/** @param {number} count @param {import("../stress/random.mjs").Random} random @returns {Generator<boolean[]>} */
function* subsets(count, random) {
  if (count <= allSubsetsMax) {
    for (let bits = 0; bits < 2 ** count; bits++)
      yield Array.from({ length: count }, (_, index) => (bits & (1 << index)) !== 0);
    return;
  }
  yield Array.from({ length: count }, () => false);
  yield Array.from({ length: count }, () => true);
  for (let sample = 0; sample < sampledSubsets; sample++) {
    const one = random.int(0, count - 1);
    const kind = sample % 3;
    yield Array.from({ length: count }, (_, index) =>
      kind === 0 ? index === one : kind === 1 ? index !== one : random.chance(50),
    );
  }
}
