/** One fault each, in the code as built: what the protocol's sentences are there for. */

/**
 * @typedef {{ file: string, find: string | RegExp, put: string }} Edit
 * @typedef {Edit & { name: string, also?: readonly Edit[], narrow?: true }} PlantedFault also: where two guards stand behind each
 * other; narrow: a window of a few instructions, or one that the drainer mostly closes again, so that here it takes luck
 * (test/interleave forces each of them)
 */

/** @type {readonly PlantedFault[]} */
export const faults = [
  {
    name: "a guest does not wait for a cluster that another thread has claimed",
    file: "engine/dist/preserve.js",
    find: "const claimed = view.claim(word, needed);",
    put: "const claimed = view.claim(word, needed); if (claimed === 0) return preserveDone;",
  },
  {
    name: "a guest preserves nothing",
    file: "engine/dist/disk-layers.js",
    find: "const result = preserveRange(view, lowest, layer.base, from, to - from);",
    put: "const result = preserveDone;",
  },
  {
    name: "a guest's write is not marked in a second bitmap",
    file: "engine/dist/disk-layers.js",
    find: "for (const recorder of layer.recorders)\n            recorder.set(from, to - from);",
    put: "layer.recorders[0].set(from, to - from);",
  },
  {
    name: "a mark misses the last byte of a write",
    file: "engine/dist/disk-layers.js",
    find: "recorder.set(from, to - from);",
    put: "recorder.set(from, Math.max(1, to - from - 1));",
  },
  {
    name: "a copier does not look whether the view is over, neither after it has read nor before it writes",
    narrow: true,
    file: "engine/dist/copier.js",
    find: /if \(view\.over\(\)\)\s*got = 0;/,
    put: ";",
    also: [
      {
        file: "engine/dist/mover.js",
        find: /(#writeHeld\(\) \{\s*const job = this\.#job;\s*)if \(job\.view\.over\(\)\)\s*return 0;/,
        put: "$1",
      },
    ],
  },
  {
    name: "a copier does not look again under its claim",
    narrow: true,
    file: "engine/dist/copier.js",
    find: "let left = view.over() ? 0 : view.neededOf(word, claimed);",
    put: "let left = claimed;",
  },
  {
    name: "a copier takes no claim",
    narrow: true,
    file: "engine/dist/copier.js",
    find: "const claimed = wanted === 0 ? 0 : view.claim(word, wanted);",
    put: "const claimed = wanted;",
  },
  {
    name: "a kernel copy does not look again whether its clusters were needed",
    narrow: true,
    file: "engine/dist/copy-then-claim.js",
    find: "const still = view.over() ? 0 : view.neededOf(word, got);",
    put: "const still = got;",
  },
  {
    name: "a drainer takes clusters that a copier works on",
    narrow: true,
    file: "engine/dist/drainer.js",
    find: "!view.isPreserved(cluster) || view.isCopying(cluster)",
    put: "!view.isPreserved(cluster)",
  },
  {
    name: "a reader does not look again after it has read the device",
    file: "engine/dist/reader.js",
    find: /if \(view\.isPreserved\(cluster\) \|\| view\.isRetired\(cluster\)\)\s*return again;/,
    put: "",
  },
  {
    name: "a reclaim forgets its fold",
    file: "runtime/dist/draft.js",
    find: "this.#folds.push({ bitmap, into: memory.bits, from: memory.successor, dropFrom: true });",
    put: "this.#folds.push({ bitmap, into: memory.successor, from: memory.successor, dropFrom: false });",
  },
  {
    name: "an abdicate keeps the frozen bits",
    file: "runtime/dist/draft.js",
    find: /entry\.memory = \{\s*\.\.\.memory,\s*bits: memory\.successor,/,
    put: "this.#folds.push({ bitmap: undefined, into: memory.successor, from: memory.bits, dropFrom: false }); entry.memory = { ...memory, bits: memory.successor,",
  },
  {
    name: "bitmap-mode always keeps clusters that no flush covers",
    file: "engine/dist/folding.js",
    find: "into.set(unit, Math.min(unitEnd, view.length) - unit);",
    put: "",
  },
  {
    name: "a merge forgets its source",
    file: "runtime/dist/draft.js",
    find: "this.#folds.push({ bitmap, into: entry.memory.bits, from: source, dropFrom: false });",
    put: "this.#folds.push({ bitmap, into: entry.memory.bits, from: entry.memory.bits, dropFrom: false });",
  },
  {
    name: "a gate closes without waiting for who is inside",
    file: "engine/dist/gatekeeper.js",
    find: "const operation = waitForSlot(gates[gate], participant, begin + holdMs);",
    put: "const operation = 0;",
  },
  {
    name: "a transition of a group closes the first gate only",
    file: "engine/dist/gatekeeper.js",
    find: "for (const words of gates)\n        Atomics.store(words, closedWord, 1);",
    put: "Atomics.store(gates[0], closedWord, 1);",
  },
  {
    name: "a thread keeps the table that it read first",
    file: "engine/dist/disk-io.js",
    find: "if (generation === this.#generation)",
    put: "if (generation === this.#generation || (this.#generation !== 0 && generation % 7 === 0))",
  },
  {
    name: "a guest waits for a full spill for as long as it takes",
    file: "engine/dist/disk-io.js",
    find: "now + held.guestDelayMaxMs",
    put: "now + 60000",
  },
  {
    name: "a broken view is not told so",
    file: "engine/dist/disk-io.js",
    find: "held.break(brokenSpillFull)",
    put: "this.#layers = this.#layers.map((layer) => ({ ...layer, views: [] }))",
  },
  {
    name: "a thread's death breaks no view",
    file: "engine/dist/engine.js",
    find: "view.view.break(brokenThreadDied);",
    put: ";",
  },
  {
    name: "a failed flush of the target is a success",
    file: "engine/dist/mover.js",
    find: "const errno = job.target.flush();",
    put: "job.target.flush(); const errno = 0;",
  },
  {
    name: "a failed write of the target is taken for done",
    file: "engine/dist/target-writer.js",
    find: /if \(errno !== 0\)\s*return errno;\s*markCopied/,
    put: "markCopied",
  },
  {
    name: "a view's memory is not given back",
    file: "engine/dist/view-memory.js",
    find: "this.#arenas.free(this.region);",
    put: "",
  },
  {
    name: "a view's memory is given back dirty",
    file: "engine/dist/view-memory.js",
    find: /zeroMemory\(this\.region\.buffer[^;]*;/,
    put: "",
  },
  {
    name: "a scan takes out what is allocated",
    file: "engine/dist/scanner.js",
    find: /if \(outside > unit\)\s*for/,
    put: "if (outside > unit || cluster % 5 === 0) for",
  },
  {
    name: "a zero cluster is not written over what the target held",
    file: "engine/dist/target-writer.js",
    find: ": job.targetIsZero",
    put: ": true",
  },
];
