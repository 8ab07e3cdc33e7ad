/** Marks, scans and merges of one bitmap: three levels of summaries, so that a mark is several steps. */
import { checkReleased } from "../check.mjs";
import { clusterSize } from "../disks.mjs";
import { lab } from "../lab.mjs";

/** Granules, so that there is a leaf, a summary and a top. */
const granules = 33 * 32;
const at = (/** @type {number} */ granule) => granule * clusterSize;

/** What each thread marks, in order. */
const marks = [
  [5, 1030],
  [6, 40, 1030],
  [1055, 5],
];

/** @param {import("../../../packages/bitmap/dist/index.js").SharedBitmap} bitmap */
function dirtyOf(bitmap) {
  const found = [];
  for (
    let next = bitmap.nextDirty(0);
    next !== -1;
    next = next + clusterSize < bitmap.length ? bitmap.nextDirty(next + clusterSize) : -1
  )
    found.push(next / clusterSize);
  return found;
}

/** @param {string} what @param {number} made bits of the marks that had been made before @param {number[]} found */
function expectAll(what, made, found) {
  for (const [index, granule] of marks.flat().entries()) {
    if (((made >>> index) & 1) !== 0 && !found.includes(granule)) {
      lab.fail(`${what} misses granule ${granule}, which was marked before it began`);
    }
  }
}

/** Every mark that was made before a scan or a merge began is found by it. @param {string} name @param {number[]} [mortal] @returns {import("../batch.mjs").Scenario} */
function marking(name, mortal) {
  return {
    name,
    threads: ["main", "guest A", "guest B"],
    ...(mortal === undefined ? {} : { mortal }),
    setup(world) {
      const disk = { disk: 6, clusters: granules, base: 0 };
      world.extra = { source: world.recorder(disk), copy: world.recorder(disk) };
      return null;
    },
    main(world) {
      const { source, copy } = world.extra;
      const before = world.oracle.noted(0);
      const found = dirtyOf(source.bitmap);
      copy.bitmap.set(at(7), clusterSize);
      const merged = world.oracle.noted(0);
      copy.bitmap.merge(source.bitmap);
      expectAll("a scan", before, found);
      expectAll(
        "a merge",
        merged,
        lab.quietly(() => dirtyOf(copy.bitmap)),
      );
    },
    thread(actor) {
      const bitmap = actor.recorders[0];
      const mine = marks[actor.thread - 1];
      const first = marks.slice(0, actor.thread - 1).flat().length;
      return () => {
        for (const [index, granule] of mine.entries()) {
          bitmap.set(at(granule), clusterSize);
          actor.oracle.note(0, actor.oracle.noted(0) | (1 << (first + index)));
        }
      };
    },
    check(world) {
      checkReleased(world);
      const { bitmap } = world.extra.source;
      const leaf = [];
      for (let granule = 0; granule < granules; granule++) if (bitmap.test(at(granule))) leaf.push(granule);
      const found = dirtyOf(bitmap);
      if (String(leaf) !== String(found))
        throw new Error(`a summary hides what is marked: ${String(leaf)} are set, a scan finds ${String(found)}`);
      for (const [index, granule] of marks.flat().entries()) {
        if (((world.oracle.noted(0) >>> index) & 1) !== 0 && !leaf.includes(granule))
          throw new Error(`the mark of granule ${granule} is lost`);
      }
    },
  };
}

/** Long marks fill summaries with whole words. @type {import("../batch.mjs").Scenario} */
const filling = {
  ...marking("bitmap-fill"),
  main(world) {
    world.extra.source.bitmap.set(at(20), 8 * 32 * clusterSize);
  },
  check(world) {
    const { bitmap } = world.extra.source;
    const expected = [...Array.from({ length: 8 * 32 }, (_, index) => 20 + index), ...marks.slice(0, 2).flat()];
    const found = dirtyOf(bitmap);
    const wanted = [...new Set(expected)].sort((one, other) => one - other);
    if (String(found) !== String(wanted)) throw new Error(`marked ${String(wanted)}, found ${String(found)}`);
  },
};

export const bitmapScenarios = [marking("bitmap"), marking("bitmap-death", [1, 2]), filling];
