/** What a sequence is made of: commands, and what guests do between them. All of it plain data, so that it can be shown. */
import { cluster, diskLength, onceFaulty } from "./scene.mjs";

/** @typedef {import("./random.mjs").Choice} Choice */
/** @typedef {{ kind: "command", name: string, args: Record<string, any> }} CommandStep */
/** @typedef {{ kind: "write" | "zeroes" | "discard", node: string, offset: number, length: number, value: number }} RangeStep */
/** @typedef {{ kind: "flush", node: string }} FlushStep */
/** @typedef {CommandStep | RangeStep | FlushStep} Step */

const disks = ["d", "d", "d", "s", "e"];
const bitmaps = ["a", "b", "c"];
const jobs = ["j", "j", "k", "k", "l"];
const exported = ["x", "y"];
const granularities = [512, 4096, 65536, 131072, 2 ** 20];
const granularitiesRefused = [0, 3000, 256];

/** @param {Choice} choice @param {number} length @returns {Step[]} */
export function makeSequence(choice, length) {
  /** @type {Step[]} */
  const steps = [];
  // A few bitmaps at the start: most sequences want some.
  for (const name of bitmaps) {
    if (choice.maybe(0.6)) steps.push(command("block-dirty-bitmap-add", addArguments(choice, name)));
  }
  while (steps.length < length) steps.push(step(choice));
  return steps;
}

/** @param {string} name @param {Record<string, unknown>} args @returns {CommandStep} */
function command(name, args) {
  return { kind: "command", name, args };
}

/** @param {Choice} choice @returns {Step} */
function step(choice) {
  const roll = choice.random();
  if (roll < 0.28) return guestStep(choice);
  if (roll < 0.48) return bitmapStep(choice);
  if (roll < 0.66) return command("blockdev-backup", jobArguments(choice));
  if (roll < 0.68) return command("drive-backup", driveArguments(choice));
  if (roll < 0.77) return command("transaction", transactionArguments(choice));
  if (roll < 0.83) return nodeStep(choice);
  if (roll < 0.86) return exportStep(choice);
  return jobStep(choice);
}

/** @param {Choice} choice @returns {Step} */
function guestStep(choice) {
  const node = choice.of(["d", "d", "d", "s"]);
  if (node === "s" && choice.maybe(0.4)) return { kind: "flush", node };
  const length = choice.of([512, 4096, cluster, 3 * cluster]);
  const offset = Math.floor((choice.below(diskLength - length) + 1) / 512) * 512;
  const roll = choice.random();
  const kind = roll < 0.75 ? "write" : roll < 0.93 ? "zeroes" : "discard";
  return { kind, node, offset, length, value: 1 + choice.below(255) };
}

/** @param {Choice} choice @param {string} name */
function addArguments(choice, name) {
  return {
    node: choice.of(disks),
    name,
    ...choice.some({
      granularity: [0.5, () => choice.of(choice.maybe(0.05) ? granularitiesRefused : granularities)],
      disabled: [0.2, true],
      persistent: [0.03, true],
    }),
  };
}

/** @param {Choice} choice */
function someBitmap(choice) {
  return {
    node: choice.maybe(0.02) ? "nosuch" : choice.of(disks),
    name: choice.maybe(0.03) ? "nosuch" : choice.of(bitmaps),
  };
}

/** @param {Choice} choice */
function mergeArguments(choice) {
  const { node, name } = someBitmap(choice);
  const sources = Array.from({ length: 1 + choice.below(2) }, () =>
    choice.maybe(0.6) ? choice.of(bitmaps) : someBitmap(choice),
  );
  return { node, target: name, bitmaps: choice.maybe(0.003) ? [] : sources };
}

/** @param {Choice} choice @returns {Step} */
function bitmapStep(choice) {
  const roll = choice.random();
  if (roll < 0.35) return command("block-dirty-bitmap-add", addArguments(choice, choice.of(bitmaps)));
  if (roll < 0.55) return command("block-dirty-bitmap-merge", mergeArguments(choice));
  return command(`block-dirty-bitmap-${choice.of(["remove", "clear", "enable", "disable"])}`, someBitmap(choice));
}

/** What a backup of either kind takes. @param {Choice} choice */
function jobArguments(choice) {
  const sync = choice.of(["full", "top", "none", "incremental", "incremental", "bitmap", "bitmap"]);
  const needsBitmap = sync === "incremental" || sync === "bitmap";
  const withBitmap = choice.maybe(needsBitmap ? 0.97 : 0.3);
  const withMode = choice.maybe(sync === "incremental" ? 0.1 : withBitmap ? 0.95 : 0.03);
  // One cluster at a time, and the second one in 18 hours: until it is given another speed it runs. (After an error QEMU's
  // sleeps on, so nothing is wrong with its nodes.)
  const slow = sync !== "none" && choice.maybe(0.15);
  const target = slow
    ? choice.of(["t", "u"])
    : choice.of(["t", "t", "u", "u", "f", "g", ...(choice.maybe(0.1) ? ["d", "nosuch"] : [])]);
  return {
    "job-id": choice.of(jobs),
    device: slow || choice.maybe(0.6) ? "d" : choice.of(["s", "s", "s", "e", "t", "nosuch"]),
    target,
    sync,
    ...(withBitmap ? { bitmap: choice.of(bitmaps) } : {}),
    ...(withMode ? { "bitmap-mode": choice.of(["on-success", "never", "always"]) } : {}),
    ...choice.some({
      "auto-finalize": [0.4, false],
      "auto-dismiss": [0.4, false],
      "on-target-error": [0.3, () => choice.of(["report", "stop", "enospc"])],
      "on-source-error": [0.3, () => choice.of(["report", "stop", "enospc"])],
      compress: [0.03, true],
      "filter-node-name": [0.03, () => choice.of(["t", "1"])],
    }),
    ...(slow
      ? { speed: 1, "x-perf": { "max-workers": 1, "max-chunk": cluster } }
      : choice.some({
          speed: [0.05, () => choice.of([-1, 2 ** 30])],
          "x-perf": [
            0.08,
            () =>
              choice.of([
                { "max-workers": 0 },
                { "max-chunk": 4096 },
                { "max-chunk": -1 },
                { "max-workers": 1, "max-chunk": cluster },
                { "use-copy-range": true },
              ]),
          ],
        })),
  };
}

/** @param {Choice} choice */
function driveArguments(choice) {
  const target = choice.of(["@/drive.raw", "@/other.raw", "@/nosuch/drive.raw"]);
  return { ...jobArguments(choice), target, format: "raw", ...choice.some({ mode: [0.5, "existing"] }) };
}

/** @param {Choice} choice */
function transactionArguments(choice) {
  const grouped = choice.maybe(0.3);
  const actions = Array.from({ length: 1 + choice.below(4) }, () => action(choice, grouped));
  return { actions, ...(grouped ? { properties: { "completion-mode": "grouped" } } : {}) };
}

/** @param {Choice} choice @param {boolean} grouped @returns {{ type: string, data: object }} */
function action(choice, grouped) {
  const roll = choice.random();
  if (roll < 0.04) return { type: "abort", data: {} };
  if (roll < (grouped ? 0.9 : 0.3)) return { type: "blockdev-backup", data: jobArguments(choice) };
  if (roll < 0.5) return { type: "block-dirty-bitmap-add", data: addArguments(choice, choice.of(bitmaps)) };
  if (roll < 0.65) return { type: "block-dirty-bitmap-merge", data: mergeArguments(choice) };
  const verb = choice.of(["remove", "clear", "disable", "enable"]);
  return { type: `block-dirty-bitmap-${verb}`, data: someBitmap(choice) };
}

/**
 * What there is changes: g comes and goes, and others; e is resized and reopened, and r, which stands on it.
 * @param {Choice} choice @returns {Step}
 */
function nodeStep(choice) {
  const roll = choice.random();
  if (roll < 0.2) return command("blockdev-del", { "node-name": choice.of(["g", "g", "n", "r", "t", "d", "nosuch"]) });
  if (roll < 0.45) return command("blockdev-add", onceFaulty(choice.of([5, 28])));
  if (roll < 0.55) {
    const size = choice.of([diskLength, 4096]);
    return command("blockdev-add", { driver: "null-co", "node-name": "n", size, "read-zeroes": true });
  }
  const readOnly = { "read-only": choice.maybe(0.5) };
  const upon = { driver: "raw", "node-name": "r", file: "e", ...readOnly };
  if (roll < 0.62) return command("blockdev-add", upon);
  if (roll < 0.75) {
    const size = choice.of([diskLength, diskLength, 16 * cluster, 20 * cluster + 512, 512, 0, -1]);
    return command("block_resize", { "node-name": choice.of(["e", "e", "e", "nosuch"]), size });
  }
  const options = { driver: "file", "node-name": "e", filename: "@/e.raw", discard: "unmap", ...readOnly };
  return command("blockdev-reopen", { options: choice.of([[options], [options], [upon], [options, upon]]) });
}

/** @param {Choice} choice @returns {Step} */
function exportStep(choice) {
  const id = choice.of(exported);
  if (choice.maybe(0.4)) return command("block-export-del", { id, ...choice.some({ mode: [0.5, "hard"] }) });
  const node = choice.of(["d", "e", "e", "r", "t", "nosuch"]);
  const named = () => Array.from({ length: 1 + choice.below(2) }, () => choice.of(bitmaps));
  return command("block-export-add", {
    type: "nbd",
    id,
    "node-name": node,
    name: `export-${id}`,
    ...choice.some({ writable: [0.3, true], bitmaps: [0.6, named] }),
  });
}

/** @param {Choice} choice @returns {Step} */
function jobStep(choice) {
  const id = choice.maybe(0.03) ? "nosuch" : choice.of(jobs);
  const verb = choice.of([
    ...["cancel", "finalize", "finalize", "dismiss", "dismiss", "pause", "resume", "resume", "complete"],
  ]);
  if (choice.maybe(0.15)) return command("block-job-set-speed", { device: id, speed: choice.of([0, 2 ** 30, -1]) });
  if (choice.maybe(0.75)) return command(`job-${verb}`, { id });
  if (verb === "finalize" || verb === "dismiss") return command(`block-job-${verb}`, { id });
  return command(`block-job-${verb}`, {
    device: id,
    ...(verb === "cancel" ? choice.some({ force: [0.5, true] }) : {}),
  });
}
