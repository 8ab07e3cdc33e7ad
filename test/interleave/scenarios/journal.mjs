/**
 * The journal of a persistent bitmap under every interleaving: guests that journal granules of one block and mark one region, as the
 * guard of a disk has them do, while others settle the region or fold a bitmap into the layer. A crash may come at any step, so
 * what a crash would find is looked at whenever data is written and whenever the file loses a mark.
 */
import { BlockBits, layerMemoryWords } from "../../../packages/journal/dist/block-bits.js";
import { layersAt, marksAt } from "../../../packages/journal/dist/layout.js";
import { marksLayout } from "../../../packages/journal/dist/marks-layout.js";
import { RegionMarks } from "../../../packages/journal/dist/region-marks.js";
import { waitOutside } from "../../../packages/engine/dist/gatekeeper.js";
import { checkReleased } from "../check.mjs";
import { clusterSize } from "../disks.mjs";
import { lab } from "../lab.mjs";

const granules = 4;
const length = granules * clusterSize;
const regionBytes = 2 ** 20;
const marksWords = marksLayout(1).words;
const layerWords = layerMemoryWords(length, clusterSize);

/** Words of the file: bits as the page cache has them and as they are durable, the mark as it was written and as it is durable, what was written. */
const file = { cached: 0, synced: 1, markWritten: 2, marked: 3, written: 4, count: 5 };

/** The file, as this thread sees it. @param {Int32Array} words */
function storageOn(words) {
  const lost = () => {
    const written = Atomics.load(words, file.written);
    const missing = written & ~Atomics.load(words, file.cached);
    if (missing !== 0) lab.fail(`a kill here would lose granules ${missing.toString(2)}, which were written`);
    const unsynced = written & ~Atomics.load(words, file.synced);
    if (unsynced !== 0 && Atomics.load(words, file.marked) === 0)
      lab.fail(`a power loss here would lose granules ${unsynced.toString(2)}, which were written`);
  };
  return {
    read: () => 0,
    write: (/** @type {Uint8Array} */ bytes, /** @type {number} */ offset) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      if (offset >= layersAt) Atomics.store(words, file.cached, view.getInt32(32, true));
      else if (offset >= marksAt) {
        const marked = view.getUint32(24, true);
        Atomics.store(words, file.markWritten, marked);
        // The worst case: a mark is gone at once, and there when it was synced.
        lab.quietly(() => {
          if (marked === 0) Atomics.store(words, file.marked, 0);
        });
      }
      lab.quietly(lost);
      return 0;
    },
    sync: () => {
      const bits = Atomics.load(words, file.cached);
      lab.quietly(() => {
        Atomics.store(words, file.synced, bits);
        if (Atomics.load(words, file.markWritten) === 1) Atomics.store(words, file.marked, 1);
      });
      return 0;
    },
    /** Data is on the disk from its first byte on. */
    data: (/** @type {number} */ granule) => {
      Atomics.or(words, file.written, 1 << granule);
      lab.quietly(lost);
    },
  };
}

/** @param {import("../actor.mjs").Actor} actor */
function journalOf(actor) {
  const [marks, layer, bytes] = actor.plan.extra;
  const { arenas } = actor.context;
  const words = arenas.words(bytes, file.count);
  const storage = storageOn(words);
  const holder = actor.thread + 1;
  return {
    words,
    storage,
    marks: new RegionMarks({
      words: arenas.words(marks, marksWords),
      storage,
      tag: 1,
      regionBytes,
      regions: 1,
      markedMax: 1,
      holder,
      waitOutside: () => waitOutside(actor.gates[0], 4, 1000),
      syncImage: () => 0,
    }),
    bits: new BlockBits({
      storage,
      tag: 1,
      layer: 1,
      offset: layersAt,
      length,
      granularity: clusterSize,
      words: arenas.words(layer, layerWords),
      holder,
    }),
  };
}

/** A guest that writes these granules, as DiskIo and the guard do. @param {number[]} writes */
function guest(writes) {
  return (/** @type {import("../actor.mjs").Actor} */ actor) => {
    const { storage, marks, bits } = journalOf(actor);
    const gate = actor.gate();
    return () => {
      for (const granule of writes) {
        const offset = granule * clusterSize;
        for (;;) {
          gate.enter(1);
          if (marks.covers(offset, clusterSize) && bits.covers(offset, clusterSize)) break;
          gate.leaveAside();
          bits.journal(offset, clusterSize, true);
          marks.mark(offset, clusterSize, true);
          gate.comeBack();
        }
        storage.data(granule);
        gate.leave();
      }
    };
  };
}

const settler = (/** @type {import("../actor.mjs").Actor} */ actor) => {
  const { marks } = journalOf(actor);
  return () => void marks.settle(true);
};

/** Another bitmap, with two granules dirty, is folded in: what `foldInto` does for a block. @param {import("../actor.mjs").Actor} actor */
const folder = (actor) => {
  const { bits } = journalOf(actor);
  return () => {
    const added = new Int32Array(120);
    added[0] = 0b1001;
    bits.add(0, added, true);
  };
};

/** @param {string} name @param {Record<string, (actor: import("../actor.mjs").Actor) => () => void>} parts @returns {import("../batch.mjs").Scenario} */
function journal(name, parts) {
  return {
    name,
    threads: ["main", ...Object.keys(parts)],
    setup(world) {
      world.attach(0, granules);
      const pieces = [marksWords, layerWords, file.count].map((words) => world.arenas.allocate(words * 4));
      return pieces.map(({ arena, byteOffset }) => ({ arena, byteOffset }));
    },
    main(world) {
      journalOf(world.actor).marks.settle(true);
    },
    thread: (actor) => Object.values(parts)[actor.thread - 1](actor),
    check(world) {
      checkReleased(world);
      const { words, bits } = journalOf(world.actor);
      for (let granule = 0; granule < granules; granule++) {
        const journaled = bits.covers(granule * clusterSize, clusterSize);
        if (journaled && ((words[file.cached] >>> granule) & 1) === 0)
          lab.fail(`granule ${granule} counts as journaled, and is not in the file`);
      }
      return words[file.marked] === 1 ? "marked" : "settled";
    },
  };
}

export const journalScenarios = [
  journal("journal", { "guest A": guest([0, 1]), "guest B": guest([1, 0]) }),
  journal("journal-settlers", { "guest A": guest([0]), "guest B": guest([1, 0]), settler }),
  journal("journal-fold", { "guest A": guest([0, 2]), "guest B": guest([3, 1]), folder }),
];
