/**
 * Where the two are meant to differ: steps that a sequence leaves out in a state in which they would, and what is set right
 * after a step that has left them different. README.md has the reasons.
 */
import { isSlow } from "./observe.mjs";
import { cluster } from "./scene.mjs";

/** @typedef {import("./observe.mjs").Observation} Observation */
/** @typedef {import("./steps.mjs").Step} Step */
/** @typedef {Record<string, any>} Backup arguments of a backup of either kind */

/** What is known while a sequence goes on. */
export class Situation {
  /** By id: what the job that has it now was asked for. @type {Map<string, Backup>} */
  #started = new Map();
  /** Jobs that have copied everything. @type {Set<string>} */
  #copied = new Set();
  /** @type {ReadonlyArray<Observation | undefined>} */
  #last = [];
  #faultOn = false;
  /** Disk `e` was cut off. */
  #shrunk = false;
  /** QEMU has changed the order of bitmaps where it is nobody's to change: see README. */
  orderLost = false;
  /** Jobs that never end by themselves. @type {Set<string>} */
  endless = new Set();

  /** @param {Step} step @returns {boolean} */
  isLeftOut(step) {
    if (step.kind === "command") return this.#isCommandLeftOut(step.name, step.args);
    const alive = this.#alive().filter(({ device }) => device === step.node);
    if (step.kind === "flush") return false;
    // QEMU drops it.
    if (step.kind === "discard" && alive.length > 0) return true;
    // It would fail there, and does not here.
    if (alive.some(({ target }) => target === "f" || target === "g")) return true;
    if (step.node === "s" && this.#faultOn && alive.length > 0) return true;
    // QEMU's job sleeps on when a guest's writes have copied what was left.
    return this.#last.some((seen) =>
      seen?.raw.some((job) => isSlow(job) && job.len - job.offset <= 4 * cluster && this.#started.has(job.device)),
    );
  }

  /** @param {string} name @param {Record<string, any>} args @returns {boolean} */
  #isCommandLeftOut(name, args) {
    const alive = this.#alive();
    if (name === "block-export-add" && args.writable === true) {
      return alive.some(({ device }) => device === args["node-name"]);
    }
    const backups = backupsOf({ kind: "command", name, args });
    const sources = new Set([...alive, ...(backups.length > 1 ? backups : [])].map(({ device }) => device));
    if (backups.some(({ target }) => sources.has(target))) return true;
    // A file that another job has open is refused here before the bitmap is looked for.
    if (name === "drive-backup" && alive.some(({ target }) => target === args.target)) return true;
    // Of two faults one comes first.
    const faulty = backups.filter((one) => one.target === "f" || one.target === "g" || one.device === "s");
    if (
      this.#faultOn &&
      faulty.some(({ device }) => device === "s") &&
      faulty.some(({ target }) => target !== "t" && target !== "u")
    )
      return true;
    if (faulty.length > 1 && args.properties !== undefined) return true;
    // A node with windows keeps its length.
    if (name === "block_resize" && this.#nodes().some((node) => node.name === "r")) return true;
    // What was cut off has changed when it is grown again, here.
    if (name === "block_resize" && this.#shrunk && args.size > this.#lengthOfE()) return true;
    return name === "transaction" && this.#endsQemu(args);
  }

  #nodes() {
    return /** @type {ReadonlyArray<{ name: string, length: number }>} */ (this.#last[0]?.nodes ?? []);
  }
  #lengthOfE() {
    return this.#nodes().find(({ name }) => name === "e")?.length ?? 0;
  }

  /** An enable that cannot be prepared ends QEMU. @param {Record<string, any>} args */
  #endsQemu({ actions, properties }) {
    return actions.some((/** @type {{ type: string, data: any }} */ { type, data }, /** @type {number} */ at) => {
      if (type !== "block-dirty-bitmap-enable") return false;
      const isThere = this.#last[0]?.bitmaps.some(
        ({ node, name, busy }) => node === data.node && name === data.name && !busy,
      );
      const earlier = actions.slice(0, at).map((/** @type {{ data: any }} */ action) => action.data);
      return (
        !isThere ||
        properties !== undefined ||
        earlier.some((/** @type {any} */ other) => other.name === data.name || other.bitmap === data.name)
      );
    });
  }

  /** Old data that guests overwrite is on its way there. @param {string} node @returns {boolean} */
  isBeingWritten(node) {
    return this.#alive().some(({ target }) => target === node);
  }

  /** Backups of jobs that are not over. */
  #alive() {
    const jobs = /** @type {ReadonlyArray<{ id: string, status: string }>} */ (this.#last[0]?.jobs ?? []);
    return jobs.filter(({ status }) => status !== "concluded").map(({ id }) => this.#started.get(id) ?? {});
  }

  /** Before it is observed what became of it. @param {Step} step @param {unknown} reply */
  noteReply(step, reply) {
    if (step.kind === "flush") this.#faultOn = !this.#faultOn;
    if (!isSuccess(reply)) return;
    if (step.kind === "command" && step.name === "block_resize") this.#shrunk = true;
    for (const backup of backupsOf(step)) {
      const id = backup["job-id"];
      this.#started.set(id, backup);
      this.#copied.delete(id);
      // An id may have been another job's before.
      if (backup.sync === "none") this.endless.add(id);
      else this.endless.delete(id);
    }
  }

  /**
   * What the step has left different where nobody promises that it is equal: bitmaps of mode always, which keep what was not
   * copied, and targets of jobs that were cut short.
   *
   * @param {Step} step
   * @param {unknown} reply
   * @param {readonly Observation[]} seen
   * @returns {{ bitmaps: ReadonlyArray<{ node: string, name: string }>, targets: readonly string[], completed: readonly string[] }}
   */
  noteSeen(step, reply, seen) {
    this.#last = seen;
    /** @type {Backup[]} */
    const cut = [];
    /** @type {string[]} */
    const completed = [];
    for (const [id, story] of Object.entries(seen[0].events)) {
      if (story.includes("waiting")) this.#copied.add(id);
      const backup = this.#started.get(id);
      if (backup === undefined) continue;
      if (story.some((told) => /^BLOCK_JOB_COMPLETED \d/.test(told))) completed.push(backup.target);
      if (story.includes("aborting") && !this.#copied.has(id)) cut.push(backup);
    }
    // QEMU has a job that it takes back before it starts leave such a bitmap all dirty.
    const takenBack = isSuccess(reply) ? [] : backupsOf(step);
    if (takenBack.some((backup) => backup["bitmap-mode"] === "always")) this.orderLost = true;
    const bitmaps = [...cut.filter(({ target }) => target !== "f"), ...takenBack]
      .filter((backup) => backup["bitmap-mode"] === "always" && backup.bitmap !== undefined)
      .map(({ device, bitmap }) => ({ node: device, name: bitmap }));
    return { bitmaps, targets: cut.map(({ target }) => target), completed };
  }
}

/** @param {unknown} reply */
function isSuccess(reply) {
  return typeof reply === "object" && reply !== null && "return" in reply;
}

/** @param {Step} step @returns {Backup[]} */
function backupsOf(step) {
  if (step.kind !== "command") return [];
  if (step.name === "blockdev-backup" || step.name === "drive-backup") return [step.args];
  if (step.name !== "transaction") return [];
  return step.args.actions
    .filter((/** @type {{ type: string }} */ { type }) => type === "blockdev-backup")
    .map((/** @type {{ data: Backup }} */ { data }) => data);
}
