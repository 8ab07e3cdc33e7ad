/**
 * One backup of a round while it runs: the options that it is started with, what its plan does to it, how it ended, and which
 * ends its plan allows.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as board from "./board.mjs";
import { blockApi } from "./heirloom.mjs";
import { readImageAt } from "./test-disk.mjs";

/** What a hang of a mirror is, in its rules. */
const hangRule = 0;
const slowRule = 1;
/** A cancel is answered at once, whatever the target does; with a last flush of a target that is slow. */
const cancelMsMax = 4000;

export class JobRun {
  /** @param {import("./plan-job.mjs").JobPlan} plan @param {import("./epoch.mjs").Epoch} epoch @param {import("./round.mjs").Round} round */
  constructor(plan, epoch, round) {
    this.plan = plan;
    this.epoch = epoch;
    this.round = round;
    this.abort = new AbortController();
    /** @type {import("../../packages/runtime/dist/index.js").Job | undefined} */
    this.job = undefined;
    /** @type {import("../../packages/runtime/dist/index.js").JobResult | undefined} */
    this.result = undefined;
    /** The image at its freeze. @type {Uint8Array | undefined} */
    this.frozen = undefined;
    /** What its bitmap said then, granules. @type {Uint8Array | undefined} */
    this.frozenGranules = undefined;
    /** @type {Uint8Array | undefined} */
    this.checkpoint = undefined;
    /** What `onCopied` was told. @type {ReadonlyArray<{ offset: number, length: number, zero: boolean }> | undefined} */
    this.extents = undefined;
    this.clusterSize = 65536;
    this.granularity = 65536;
    /** The target began as the image of the checkpoint. */
    this.updates = false;
    this.grouped = false;
    this.wasCancelled = false;
    this.leaked = false;
    this.path = join(epoch.directory, `${plan.id}.raw`);
  }

  get disk() {
    return this.epoch.disks[this.plan.disk];
  }

  /** @returns {import("../../packages/runtime/dist/index.js").TransactionAction} */
  action() {
    const { plan } = this;
    const { id, sync, bitmap, mode, trouble } = plan;
    return /** @type {import("../../packages/runtime/dist/index.js").TransactionAction} */ ({
      type: "backup",
      disk: this.disk.disk,
      target: this.#target(),
      jobId: id,
      sync,
      ...(bitmap === undefined ? {} : { bitmap }),
      ...(mode === undefined ? {} : { bitmapMode: mode }),
      ...plan.options,
      guestDelayMax: plan.guestDelayMax,
      onCopied: async (/** @type {import("../../packages/runtime/dist/index.js").CopiedBackup} */ copied) => {
        this.extents = await copied.extents();
        this.clusterSize = copied.clusterSize;
        if (trouble.kind === "onCopied throws") throw new Error("planned: the record cannot be written");
      },
      ...(trouble.kind === "target error" ? { onTargetError: trouble.policy } : {}),
      ...(trouble.kind === "no space" ? { onTargetError: "enospc" } : {}),
      ...(trouble.kind === "source policy" ? { onSourceError: "ignore" } : {}),
      ...(trouble.kind === "finalize" ? { autoFinalize: false } : {}),
      ...(trouble.kind === "pause" ? { autoDismiss: false } : {}),
      ...(trouble.kind === "speed" ? { speed: trouble.bytes } : {}),
      ...(trouble.kind === "signal" ? { signal: this.abort.signal } : {}),
    });
  }

  /** @returns {unknown} */
  #target() {
    const { plan } = this;
    if (plan.mirror !== undefined) {
      const mirror = this.epoch.disks[plan.mirror].disk;
      if (plan.slow) blockApi.armFault(mirror.node, slowRule);
      if (plan.trouble.kind === "hang") blockApi.armFault(mirror.node, hangRule);
      return mirror;
    }
    const { length } = this.disk;
    const checkpoint =
      plan.bitmap === undefined
        ? undefined
        : this.epoch.bitmaps.get(`${plan.disk}/${plan.bitmap}`)?.checkpoint?.subarray(0, this.disk.length);
    if (plan.target === "update" && checkpoint !== undefined) writeFileSync(this.path, checkpoint, { flag: "wx" });
    if (plan.target === "garbage") writeFileSync(this.path, Buffer.alloc(length, "other"), { flag: "wx" });
    const made = (plan.target === "update" && checkpoint !== undefined) || plan.target === "garbage";
    const file = { driver: "file", filename: this.path, ...(made ? {} : { create: { length } }) };
    const rules = this.#rules();
    return rules.length === 0 ? file : { driver: "fault", file, rules };
  }

  #rules() {
    const { trouble, slow } = this.plan;
    const rules = slow ? [{ kind: "write", every: 1, action: { delayMs: 2 } }] : [];
    if (trouble.kind === "target error") return [trouble.rule, ...rules];
    if (trouble.kind === "no space")
      return [{ kind: "write", nth: 2, every: 25, action: { error: "ENOSPC" } }, ...rules];
    if (trouble.kind === "hang for ever") return [{ kind: "write", nth: 1, action: { hang: true } }];
    if (trouble.kind === "target exit") return [{ kind: "write", nth: trouble.nth, action: { exit: true } }, ...rules];
    if (trouble.kind === "flush error") return [{ kind: "flush", always: true, action: { error: "EIO" } }, ...rules];
    return rules;
  }

  /** Follows it to its end. @param {import("../../packages/runtime/dist/index.js").Job} job */
  async drive(job) {
    this.job = job;
    let ended = false;
    const done = job.done.then((result) => {
      ended = true;
      this.result = result;
    });
    const trouble = this.#trouble(job, () => ended);
    trouble.catch((error) => this.round.fail("a job's verb threw", { job: job.id, error: String(error.stack) }));
    let seen = "";
    // As long as it moves it may be slow: the machine has others to serve.
    while (!(await within(done, 20_000))) {
      const now = `${job.info.offset} ${job.history.length} ${String(job.history.at(-1)?.at)}`;
      if (now === seen) {
        this.round.fail("a job does not end", { job: job.id, info: job.info, history: job.history });
        break;
      }
      seen = now;
    }
    await within(trouble, 5000);
    if (job.info.status === "concluded" && !job.info.autoDismiss) job.dismiss();
  }

  /** @param {import("../../packages/runtime/dist/index.js").Job} job @param {() => boolean} ended */
  async #trouble(job, ended) {
    const { trouble } = this.plan;
    const verb = (/** @type {() => void} */ call) => {
      try {
        call();
        return true;
      } catch (error) {
        // It ended, or its success was decided, a moment ago: no other refusal is right.
        if (/** @type {{ code?: string }} */ (error).code?.startsWith("ERR_JOB") !== true) throw error;
        return false;
      }
    };
    const cancel = async () => {
      const from = board.clock();
      if (!verb(() => job.cancel())) return;
      this.wasCancelled = true;
      await job.done;
      const took = board.clock() - from;
      if (took > cancelMsMax) this.round.fail("a cancel was not answered at once", { job: job.id, milliseconds: took });
    };
    switch (trouble.kind) {
      case "cancel":
        await sleep(trouble.afterMs);
        await cancel();
        return;
      case "signal":
        await sleep(trouble.afterMs);
        this.wasCancelled = true;
        this.abort.abort();
        return;
      case "pause":
        await sleep(trouble.afterMs);
        if (!verb(() => job.pause())) return;
        await sleep(trouble.forMs);
        verb(() => job.resume());
        return;
      case "speed":
        await sleep(trouble.forMs);
        verb(() => job.setSpeed(0));
        return;
      case "finalize":
        while (!ended() && job.info.status !== "pending") await sleep(3);
        await sleep(10);
        if (ended()) return;
        if (trouble.cancel) await cancel();
        else verb(() => job.finalize());
        return;
      case "hang":
        await this.#hang(job, ended, cancel);
        return;
      case "hang for ever":
        await sleep(30);
        this.leaked = true;
        await cancel();
        return;
      default:
        await this.#resumeWhilePaused(job, ended);
    }
  }

  /** A job whose policy stopped it goes on when it is told to. @param {import("../../packages/runtime/dist/index.js").Job} job @param {() => boolean} ended */
  async #resumeWhilePaused(job, ended) {
    while (!ended()) {
      await sleep(5);
      if (job.info.status !== "paused" || job.info.ioStatus === "ok") continue;
      try {
        job.resume();
      } catch {
        // it was cancelled by a member of its group meanwhile
      }
    }
  }

  /** @param {import("../../packages/runtime/dist/index.js").Job} job @param {() => boolean} ended @param {() => Promise<void>} cancel */
  async #hang(job, ended, cancel) {
    const { trouble, mirror } = this.plan;
    if (trouble.kind !== "hang" || mirror === undefined) return;
    const { node } = this.epoch.disks[mirror].disk;
    while (!ended() && blockApi.faultCount(node, hangRule) === 0) await sleep(2);
    if (ended()) return;
    // With no room in the spill it hangs for longer than a guest may wait (I7).
    const { spill } = /** @type {{ spill: { memory: number } }} */ (this.plan.options);
    await sleep(spill.memory < this.disk.length ? 600 : 15);
    if (trouble.how === "cancel") {
      await cancel();
      if (trouble.again) await this.#again();
    }
    blockApi.disarmFault(node, hangRule);
    blockApi.releaseHang(node, trouble.how === "release with error" ? 5 : 0);
  }

  /** Only that target stays taken, and the refusal names who has it. */
  async #again() {
    const { mirror } = this.plan;
    if (mirror === undefined) return;
    const attempt = this.epoch.runtime.backup({
      disk: this.disk.disk,
      target: this.epoch.disks[mirror].disk,
      jobId: `${this.plan.id}again`,
      sync: "full",
    });
    const error = await attempt.then(
      () => undefined,
      (/** @type {unknown} */ thrown) => /** @type {{ code?: string }} */ (thrown),
    );
    if (error === undefined)
      this.round.fail("a second job may write a target that the first has not let go of", { job: this.plan.id });
    else if (error.code !== "ERR_TARGET_LETTING_GO" && error.code !== "ERR_NODE_BUSY")
      this.round.unexpected("a second job on a hung target", error);
  }

  /** Whether the end is one that the plan allows; says which would be right. */
  judge() {
    const { plan, result, round } = this;
    if (result === undefined) return;
    const { trouble } = plan;
    const errors = round.allowedErrors(plan);
    const failing = trouble.kind === "flush error" || trouble.kind === "onCopied throws";
    const mayFail = new Set(["target error", "target exit", "tiny spill", "hang"]);
    if (mayFail.has(trouble.kind) && !(trouble.kind === "hang" && trouble.how === "release"))
      errors.push(...ownErrors(trouble));
    if (failing) errors.push(...ownErrors(trouble));
    const { spill } = /** @type {{ spill: { memory: number } }} */ (plan.options);
    if (trouble.kind !== "guest gives way" && spill.memory < this.disk.length) errors.push(/spill was full/);
    const peers = this.grouped && round.troubled;
    const cancellable = this.wasCancelled || trouble.kind === "signal" || peers;
    const wrong =
      result.status === "completed"
        ? plan.sync === "none" ||
          (failing && !peers) ||
          (trouble.kind === "finalize" && trouble.cancel && this.wasCancelled)
        : result.status === "cancelled"
          ? !cancellable
          : !errors.some((pattern) => pattern.test(result.error ?? ""));
    if (wrong)
      round.fail("a job ended in a way that nothing of its plan explains", {
        job: plan.id,
        result,
        plan,
        allowed: errors.map(String),
        history: this.job?.history,
      });
  }

  targetImage() {
    return this.plan.mirror === undefined ? readImageAt(this.path) : this.epoch.disks[this.plan.mirror].image();
  }

  removeTarget() {
    if (this.plan.mirror === undefined) rmSync(this.path, { force: true });
  }
}

/** @param {import("./plan-job.mjs").Trouble} trouble @returns {RegExp[]} */
function ownErrors(trouble) {
  switch (trouble.kind) {
    case "target error":
    case "flush error":
    case "hang":
      return [/input\/output error/i];
    case "target exit":
      return [/thread/i];
    case "tiny spill":
      return [/spill was full/];
    case "onCopied throws":
      return [/planned/];
    default:
      return [];
  }
}

/** @param {number} milliseconds @returns {Promise<void>} */
export function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** @param {Promise<unknown>} work @param {number} milliseconds @returns {Promise<boolean>} whether it ended in time */
export async function within(work, milliseconds) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, milliseconds, false)));
  const inTime = await Promise.race([work.then(() => true), late]);
  clearTimeout(timer);
  return inTime === true;
}

/** @param {string} directory */
export function makeDirectory(directory) {
  mkdirSync(directory, { recursive: true });
}
