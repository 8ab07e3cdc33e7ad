/** Every crash of one recorded run: after a kill, after a power loss; and of some of them every crash of the recovery. */
import { readSidecar } from "../../packages/journal/dist/recover.js";
import { check } from "./check.mjs";
import { CrashedStorage, sectorBytes } from "./recording.mjs";
import { concludesLoss, recoverRecorded } from "./recovery.mjs";

/** So many sectors that were not synced: every subset. More: a sample, and those that differ from all or nothing by one. */
const allSubsetsMax = 7;
const sampledSubsets = 24;
/**
 * Of so many states after a crash one is recovered, and that recovery crashed at each of its steps: more of those in which a bitmap
 * has several layers to be joined.
 */
const recoveredShare = { layered: 12, plain: 100 };

/**
 * @param {import("./world.mjs").World} world after its run
 * @param {import("../stress/random.mjs").Random} random
 * @param {number} markedMax
 * @returns {Promise<{ kills: number, losses: number, again: number }>} states that were checked; again: after a crash of a recovery
 */
export async function enumerate(world, random, markedMax) {
  const { log } = world.recorder;
  const counts = { kills: 0, losses: 0, again: 0 };
  /** The sidecar as a kill leaves it, and as it was at its last sync. */
  const cached = world.base.slice();
  const durable = world.base.slice();
  /** @type {{ sector: number, bytes: Uint8Array }[]} */
  let unsynced = [];
  /** What each granule held at the image's last sync, and what it may hold now. @type {Map<number, Set<number>>} */
  let versions = new Map();
  const current = new Map();
  for (let at = 0; at <= log.length; at++) {
    const model = at < log.length ? log[at].model : world.model;
    /** After a kill the page cache holds what was not synced; a power loss in the recovery may still take it. */
    const before = (/** @type {CrashedStorage} */ storage, /** @type {boolean} */ lost) => {
      const found = storage.materialize();
      if (lost) return { found, durable: found.slice(), unsynced: [] };
      const torn = [...storage.sectors].map(([sector, bytes]) => ({ sector, bytes }));
      return { found, durable: durable.slice(), unsynced: [...unsynced, ...torn] };
    };
    const look = async (
      /** @type {CrashedStorage} */ storage,
      /** @type {boolean} */ lost,
      /** @type {string} */ what,
    ) => {
      try {
        check(storage, model, { lost, markedMax, versions });
        const layered = readSidecar(storage, "test").directory.bitmaps.some(({ layers }) => layers.length > 1);
        if (random.int(1, layered ? recoveredShare.layered : recoveredShare.plain) === 1)
          counts.again += await crashRecovery(before(storage, lost), random, lost, (again, concludes, gone) =>
            check(again, model, { lost: gone, concludes, markedMax, versions }),
          );
      } catch (error) {
        throw new Error(`${/** @type {Error} */ (error).message} (after ${at} of ${log.length} steps, ${what})`, {
          cause: error,
        });
      }
    };
    await look(new CrashedStorage(cached, new Map()), false, "killed");
    counts.kills++;
    const step = log[at];
    if (step?.file === "journal" && step.type === "write" && step.bytes.length > sectorBytes) {
      for (const count of tears(step.bytes.length / sectorBytes)) {
        await look(
          new CrashedStorage(
            cached,
            new Map(
              sectorsOf(step)
                .slice(0, count)
                .map(({ sector, bytes }) => [sector, bytes]),
            ),
          ),
          false,
          `killed in a write after ${count} sectors`,
        );
        counts.kills++;
      }
    }
    for (const subset of subsets(unsynced.length, random)) {
      const sectors = new Map();
      unsynced.forEach(({ sector, bytes }, index) => subset[index] && sectors.set(sector, bytes));
      await look(
        new CrashedStorage(durable, sectors),
        true,
        `power loss with ${subset.filter(Boolean).length} of ${unsynced.length} sectors`,
      );
      counts.losses++;
    }
    if (step === undefined) break;
    if (step.type === "sync") {
      if (step.file === "journal") {
        durable.set(cached);
        unsynced = [];
      } else versions = new Map([...current].map(([granule, version]) => [granule, new Set([version])]));
    } else if (step.file === "journal") {
      cached.set(step.bytes, step.offset);
      unsynced.push(...sectorsOf(step));
    } else {
      const before = versions.get(step.granule) ?? new Set([current.get(step.granule) ?? 0]);
      versions.set(step.granule, before.add(step.version));
      current.set(step.granule, step.version);
    }
  }
  return counts;
}

/**
 * @param {{ found: Uint8Array, durable: Uint8Array, unsynced: { sector: number, bytes: Uint8Array }[] }} before the sidecar after the
 *   first crash; what of it is on stable storage, and what is in the page cache alone
 * @param {import("../stress/random.mjs").Random} random
 * @param {boolean} first whether it was a power loss
 * @param {(storage: CrashedStorage, concludes: boolean, lost: boolean) => void} look
 * @returns {Promise<number>} states that were looked at
 */
async function crashRecovery({ found, durable, unsynced }, random, first, look) {
  const cached = found.slice();
  const log = await recoverRecorded(found, first);
  let states = 0;
  const again = (/** @type {CrashedStorage} */ storage, /** @type {boolean} */ second, /** @type {string} */ what) => {
    try {
      look(storage, concludesLoss(storage, first, second), first || second);
      states++;
    } catch (error) {
      throw new Error(`${/** @type {Error} */ (error).message}, in its recovery ${what}`, { cause: error });
    }
  };
  for (let at = 0; at <= log.length; at++) {
    again(new CrashedStorage(cached, new Map()), false, `killed after ${at} of ${log.length} steps`);
    for (const subset of subsets(unsynced.length, random)) {
      const sectors = new Map();
      unsynced.forEach(({ sector, bytes }, index) => subset[index] && sectors.set(sector, bytes));
      again(new CrashedStorage(durable, sectors), true, `lost the power after ${at} of ${log.length} steps`);
    }
    const step = log[at];
    if (step === undefined) break;
    if (step.type === "sync") {
      durable.set(cached);
      unsynced = [];
    } else if (step.file === "journal") {
      cached.set(step.bytes, step.offset);
      unsynced.push(...sectorsOf(step));
    }
  }
  return states;
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
