/** A sequence against both daemons at once; where they differ, the shortest sequence that still shows it. */
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { Daemon } from "./daemon.mjs";
import { Situation } from "./differences.mjs";
import { observe, perform } from "./observe.mjs";
import { diskLength, Scene } from "./scene.mjs";

/** @typedef {import("./steps.mjs").Step} Step */
/** @typedef {import("./observe.mjs").Observation} Observation */
/** @typedef {{ at: number, steps: readonly Step[], qemu: unknown, ours: unknown }} Difference */

/** Longer than either takes for anything. */
const hungMs = 15_000;
/** What QEMU does not answer then, where it may hang, is left out. */
const hungSoonMs = 2000;

export class Pair {
  /** @type {Daemon | undefined} */
  #qemu;
  /** @type {Daemon | undefined} */
  #ours;
  /** Sequences that QEMU did not survive, or in which it hung. */
  qemuEnded = 0;
  /** The last step of the latest of them. @type {unknown} */
  qemuEndedBy;
  /** Steps that were carried out and compared. */
  steps = 0;

  get oursPid() {
    return this.#ours?.pid;
  }

  /**
   * The first step after which they differ.
   *
   * @param {readonly Step[]} steps
   * @param {number} seed
   * @returns {Promise<Difference | undefined>}
   */
  async run(steps, seed) {
    if (this.#qemu?.ended === true || this.#ours?.ended === true) await this.stop();
    const qemu = await Scene.open((this.#qemu ??= await Daemon.start("qemu")), seed);
    const ours = await Scene.open((this.#ours ??= await Daemon.start("ours")), seed);
    /** @type {Difference | undefined} */
    let difference;
    try {
      difference = await this.#compare(steps, qemu, ours);
      if (difference === undefined || isOrdinary(difference)) {
        await Promise.all([qemu.close(), ours.close()]);
        return difference;
      }
    } catch (error) {
      await this.stop();
      throw new Error(`seed ${seed}`, { cause: error });
    }
    // Whoever died, or hangs, is replaced.
    await this.stop();
    // There is nothing to compare with, but that ours went on.
    if (difference.ours !== wentOn) return difference;
    this.qemuEnded++;
    this.qemuEndedBy = difference.steps[difference.at];
    return undefined;
  }

  async stop() {
    await Promise.all([this.#qemu?.stop(), this.#ours?.stop()]);
    this.#qemu = undefined;
    this.#ours = undefined;
  }

  /** @param {readonly Step[]} steps @param {Scene} qemu @param {Scene} ours @returns {Promise<Difference | undefined>} */
  async #compare(steps, qemu, ours) {
    const situation = new Situation();
    for (const [at, step] of steps.entries()) {
      if (situation.isLeftOut(step)) continue;
      this.steps++;
      const replies = await Promise.all([
        within(perform(qemu, step), mayHangQemu(step) ? hungSoonMs : hungMs),
        within(perform(ours, step)),
      ]);
      situation.noteReply(step, replies[0]);
      const seen = await Promise.all(
        [qemu, ours].map((scene, index) =>
          isAnswer(replies[index]) ? within(observe(scene, step, replies[index], situation.endless)) : replies[index],
        ),
      );
      if (!seen.every(isObservation)) {
        const [theirs, mine] = seen.map((one) => (isObservation(one) ? wentOn : one === hung ? "hung" : "died"));
        return { at, steps, qemu: theirs, ours: mine };
      }
      const left = situation.noteSeen(step, replies[0], seen);
      const [theirs, mine] = seen.map((one) => comparable(one, left.bitmaps, situation.orderLost));
      if (!isDeepStrictEqual(theirs, mine)) return { at, steps, ...different(theirs, mine) };
      for (const target of left.completed) {
        if (!sameContent(target, qemu, ours)) return { at, steps, qemu: `${target} differs`, ours: "" };
      }
      await setRight(left, [qemu, ours]);
    }
    for (const disk of ["d", "s", "e"]) {
      if (situation.isBeingWritten(disk)) continue;
      if (!sameContent(disk, qemu, ours)) return { at: steps.length - 1, steps, qemu: `${disk} differs`, ours: "" };
    }
    return undefined;
  }
}

/** QEMU 7.2 hangs when it takes back a grouped transaction in which it had made two jobs. @param {Step} step */
function mayHangQemu(step) {
  return step.kind === "command" && step.name === "transaction" && step.args.properties !== undefined;
}

const wentOn = "went on";
const hung = Symbol("hung");

/** @param {Difference} difference */
function isOrdinary({ qemu, ours }) {
  return qemu !== wentOn && ours !== wentOn;
}

/** @param {unknown} reply */
function isAnswer(reply) {
  return reply !== hung && !(typeof reply === "object" && reply !== null && "died" in reply);
}

/** @param {unknown} seen @returns {seen is Observation} */
function isObservation(seen) {
  return typeof seen === "object" && seen !== null && "bitmaps" in seen;
}

/** @template Value @param {Promise<Value>} work @param {number} [ms] @returns {Promise<Value | typeof hung>} */
async function within(work, ms = hungMs) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(hung), ms);
  });
  try {
    return /** @type {Value | typeof hung} */ (await Promise.race([work, late]));
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {Observation} seen
 * @param {ReadonlyArray<{ node: string, name: string }>} left
 * @param {boolean} orderLost
 * @returns {Omit<Observation, "raw">}
 */
function comparable({ raw: _, ...seen }, left, orderLost) {
  const bitmaps = seen.bitmaps.map((bitmap) => {
    if (!left.some(({ node, name }) => node === bitmap.node && name === bitmap.name)) return bitmap;
    const { count: _count, digest: _digest, ...rest } = bitmap;
    return /** @type {import("./observe.mjs").Bitmap} */ (rest);
  });
  const place = (/** @type {import("./observe.mjs").Bitmap} */ { node, name = "" }) => `${node} ${name}`;
  if (orderLost) bitmaps.sort((one, other) => (place(one) < place(other) ? -1 : 1));
  return { ...seen, bitmaps };
}

/** Only what differs, for people. @param {object} qemu @param {object} ours */
function different(qemu, ours) {
  const names = /** @type {Array<keyof typeof qemu>} */ (Object.keys(qemu)).filter(
    (name) => !isDeepStrictEqual(qemu[name], ours[name]),
  );
  const pick = (/** @type {Record<string, unknown>} */ of) => Object.fromEntries(names.map((name) => [name, of[name]]));
  return { qemu: pick(/** @type {any} */ (qemu)), ours: pick(/** @type {any} */ (ours)) };
}

/** @param {string} target a node's name or a file @param {Scene} qemu @param {Scene} ours */
function sameContent(target, qemu, ours) {
  const [one, other] = [qemu, ours].map((scene) => fileOf(scene, target));
  if (!existsSync(one) && !existsSync(other)) return true;
  return existsSync(one) && existsSync(other) && readFileSync(one).equals(readFileSync(other));
}

/** @param {Scene} scene @param {string} target */
function fileOf(scene, target) {
  return target.startsWith("@/") ? scene.here(target) : scene.path(target);
}

/**
 * @param {{ bitmaps: ReadonlyArray<{ node: string, name: string }>, targets: readonly string[] }} left
 * @param {readonly Scene[]} scenes
 */
async function setRight({ bitmaps, targets }, scenes) {
  for (const scene of scenes) {
    for (const bitmap of bitmaps) await scene.daemon.client.ask("block-dirty-bitmap-clear", bitmap);
    for (const target of targets) {
      const file = fileOf(scene, target);
      if (!existsSync(file)) continue;
      const fd = openSync(file, "r+");
      writeSync(fd, new Uint8Array(diskLength), 0, diskLength, 0);
      closeSync(fd);
    }
  }
}

/**
 * Leaves out ever smaller parts for as long as a difference stays.
 *
 * @param {Pair} pair
 * @param {Difference} found
 * @param {number} seed
 * @returns {Promise<Difference>}
 */
export async function shrink(pair, found, seed) {
  /** @type {Difference} */
  let best = { ...found, steps: found.steps.slice(0, found.at + 1) };
  for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < best.steps.length;) {
      const steps = [...best.steps.slice(0, from), ...best.steps.slice(from + size)];
      const smaller = steps.length === 0 ? undefined : await pair.run(steps, seed);
      if (smaller === undefined) from += size;
      else best = { ...smaller, steps: smaller.steps.slice(0, smaller.at + 1) };
    }
  }
  return best;
}

/** As a transcript. @param {Difference} difference @param {number} seed @returns {string} */
export function tell({ steps, qemu, ours }, seed) {
  const lines = steps.map((step) =>
    step.kind === "command" ? JSON.stringify({ execute: step.name, arguments: step.args }) : JSON.stringify(step),
  );
  return [
    `seed ${seed}`,
    ...lines,
    `QEMU: ${JSON.stringify(qemu, null, 1)}`,
    `ours: ${JSON.stringify(ours, null, 1)}`,
  ].join("\n");
}
