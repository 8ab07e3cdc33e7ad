/**
 * A round: its plan carried out while the writers write, then all is parked and everything is checked. Commands go one after
 * another, so that each has its place among the requests; jobs, views, faults and deaths run beside them.
 */
import * as board from "./board.mjs";
import { checkCeiling, checkQuiet, memoryCeiling } from "./checks.mjs";
import { unknown } from "./granules.mjs";
import { blockApi } from "./heirloom.mjs";
import { JobRun, sleep, within } from "./job-run.mjs";
import { Reattach, resize } from "./between.mjs";
import { Replay } from "./replay.mjs";
import { checkKept, checkRestored, roundToClusters } from "./restore.mjs";
import { mirrorRules, sourceRules } from "./test-disk.mjs";
import { ViewRun } from "./view-run.mjs";

export class Round {
  /** @param {import("./plan.mjs").RoundPlan} plan @param {import("./epoch.mjs").Epoch} epoch */
  constructor(plan, epoch) {
    this.plan = plan;
    this.epoch = epoch;
    /** @type {import("./replay.mjs").Command[]} */
    this.commands = [];
    /** @type {JobRun[]} */
    this.runs = [];
    this.begun = board.tick(epoch.control);
    /** Commands wait for each other here. @type {Promise<unknown>} */
    this.lane = Promise.resolve();
    const jobs = plan.transactions.flatMap(({ actions }) =>
      actions.flatMap((action) => ("job" in action ? [action.job] : [])),
    );
    const exits = plan.source !== undefined && sourceRules[plan.source.rule].name.endsWith("exit");
    this.deadly = exits || plan.kill !== undefined || jobs.some((job) => job.trouble.kind === "target exit");
    this.troubled = this.deadly || plan.source !== undefined || jobs.some((job) => job.trouble.kind !== "none");
    this.jobs = jobs;
    /** Bytes of shared memory that it may take. */
    this.memoryMax = Number.POSITIVE_INFINITY;
    /** A thread may hang where a transition waits for it. */
    this.hanging =
      (plan.source !== undefined && sourceRules[plan.source.rule].name.endsWith("hang")) ||
      jobs.some((job) => job.trouble.kind === "hang");
  }

  /** @param {string} text @param {object} details */
  fail(text, details) {
    this.epoch.fail(text, details);
  }

  /** @param {string} what @param {unknown} error */
  unexpected(what, error) {
    this.fail(`${what}: an error that nothing planned explains`, {
      error: String(/** @type {Error} */ (error).stack),
      code: /** @type {{ code?: string }} */ (error).code,
    });
  }

  /** What may be said of a job that failed for what others did. @param {import("./plan-job.mjs").JobPlan} job @returns {RegExp[]} */
  allowedErrors(job) {
    const { source } = this.plan;
    const errors = [];
    if (this.deadly) errors.push(/thread/i);
    // A mirror's guests are the movers of another job, which may die or hang there.
    if (source?.disk === job.disk && sourceRules[source.rule].errors)
      errors.push(/input\/output error/i, /could not be read/);
    if (
      this.runs.some((run) => run.grouped && run.plan === job) &&
      this.jobs.some((one) => one.trouble.kind !== "none")
    )
      errors.push(/Operation canceled/);
    return errors;
  }

  async run() {
    const { plan, epoch } = this;
    if (plan.resize !== undefined) await resize(this, plan.resize);
    if (plan.reattach !== undefined) await new Reattach(this, epoch.disks[plan.reattach]).run();
    this.memoryMax = memoryCeiling(this);
    const view = plan.view === undefined ? undefined : new ViewRun(plan.view, this);
    await view?.begin();
    this.#expect();
    epoch.crew.resume();
    epoch.mainGuest?.resume();
    const work = [
      this.#sources(),
      this.#kill(),
      view?.run(),
      ...plan.transactions.map((transaction) => this.#transaction(transaction)),
    ];
    const settled = Promise.all(work).catch((error) => this.unexpected("a round", error));
    // Without work there are still the guests.
    await Promise.all([settled, sleep(plan.transactions.length === 0 ? 40 : 5)]);
    this.#letGo();
    await this.#quiet();
  }

  /** What guests have to expect in this round. */
  #expect() {
    const { plan, epoch } = this;
    for (const disk of epoch.disks) {
      const here = this.jobs.filter((job) => job.disk === disk.index);
      const source = plan.source?.disk === disk.index ? sourceRules[plan.source.rule] : undefined;
      let flags = 0;
      if (source !== undefined) flags |= board.expectDelays | (source.errors ? board.expectErrors : 0);
      if (source?.name.endsWith("hang") === true) flags |= board.expectErrors;
      if (here.some((job) => job.trouble.kind === "guest gives way")) flags |= board.expectTimeouts;
      Atomics.store(epoch.control, board.expectFlag(disk.index), flags);
      Atomics.store(epoch.control, board.delayFlag(disk.index), Math.max(20, ...here.map((job) => job.guestDelayMax)));
    }
  }

  async #sources() {
    const { source } = this.plan;
    if (source === undefined) return;
    await sleep(source.afterMs);
    const { node } = this.epoch.disks[source.disk].disk;
    blockApi.armFault(node, source.rule);
    if (!sourceRules[source.rule].name.endsWith("hang")) return;
    await sleep(60);
    blockApi.disarmFault(node, source.rule);
    blockApi.releaseHang(node);
  }

  async #kill() {
    const { kill } = this.plan;
    if (kill === undefined) return;
    await sleep(kill.afterMs);
    await this.epoch.crew.kill(kill.writer);
  }

  /** Nothing that was planted goes on. */
  #letGo() {
    for (const disk of this.epoch.disks) {
      if (disk.attached === undefined) continue;
      const rules = disk.mirror ? mirrorRules : disk.plan.decorated ? sourceRules : [];
      for (const index of rules.keys()) blockApi.disarmFault(disk.disk.node, index);
      if (rules.length > 0) blockApi.releaseHang(disk.disk.node);
    }
  }

  /** @param {import("./plan.mjs").TransactionPlan} plan */
  async #transaction(plan) {
    await sleep(plan.afterMs);
    const started = this.lane.then(() => this.#command(plan));
    this.lane = started.catch(() => {});
    const runs = await started;
    await Promise.all(runs.map(({ run, job }) => this.#follow(run, job)));
  }

  /** @param {import("./plan.mjs").TransactionPlan} plan @returns {Promise<{ run: JobRun, job: import("../../packages/runtime/dist/index.js").Job }[]>} */
  async #command(plan) {
    const { epoch } = this;
    if (!this.#exists(plan)) return [];
    const from = board.tick(epoch.control);
    const steps = plan.actions.map((action) => {
      if (!("job" in action)) return { command: action.command, run: undefined };
      const run = new JobRun(action.job, epoch, this);
      run.grouped = plan.grouped;
      run.updates =
        action.job.target === "update" &&
        epoch.bitmaps.get(`${action.job.disk}/${action.job.bitmap}`)?.checkpoint !== undefined;
      return { command: undefined, run };
    });
    const actions = steps.map(({ command, run }) => (run === undefined ? this.#action(command) : run.action()));
    const runs = steps.flatMap(({ run }) => (run === undefined ? [] : [run]));
    let jobs;
    try {
      jobs = await epoch.runtime.transaction(actions, { completionMode: plan.grouped ? "grouped" : "individual" });
    } catch (error) {
      this.#refused(plan, error);
      for (const run of runs) run.removeTarget();
      return [];
    }
    if (plan.actions.some((action) => "command" in action && action.command.type === "abort"))
      this.fail("a transaction with an abort was carried out", {});
    this.#note(steps, from, board.tick(epoch.control));
    this.runs.push(...runs);
    checkCeiling(this);
    return runs.map((run, index) => ({ run, job: jobs[index] }));
  }

  /** What a transaction names may be gone: an earlier one was refused. @param {import("./plan.mjs").TransactionPlan} plan */
  #exists(plan) {
    const added = new Set();
    const has = (/** @type {number} */ disk, /** @type {string} */ name) =>
      added.has(`${disk}/${name}`) || this.epoch.disks[disk].disk.bitmaps.list().some((one) => one.name === name);
    return plan.actions.every((action) => {
      if ("job" in action) return action.job.bitmap === undefined || has(action.job.disk, action.job.bitmap);
      const { command } = action;
      if (command.type === "abort") return true;
      if (command.type === "add") return added.add(`${command.disk}/${command.name}`) !== undefined;
      return (
        has(command.disk, command.name) &&
        (command.type !== "merge" || command.sources.every((source) => has(source.disk, source.name)))
      );
    });
  }

  /** @param {import("./plan.mjs").CommandPlan | undefined} command @returns {import("../../packages/runtime/dist/index.js").TransactionAction} */
  #action(command) {
    if (command === undefined || command.type === "abort") return { type: "abort" };
    const disk = this.epoch.disks[command.disk].disk;
    if (command.type === "add")
      return {
        type: "bitmap-add",
        disk,
        name: command.name,
        granularity: command.granularity,
        disabled: command.disabled,
      };
    if (command.type !== "merge") return { type: `bitmap-${command.type}`, disk, name: command.name };
    const sources = command.sources.map((source) => ({ disk: this.epoch.disks[source.disk].disk, name: source.name }));
    return { type: "bitmap-merge", disk, target: command.name, sources };
  }

  /** @param {import("./plan.mjs").TransactionPlan} plan @param {unknown} error */
  #refused(plan, error) {
    const { code } = /** @type {{ code?: string }} */ (error);
    const { tally } = this.epoch;
    tally.refusals[code ?? "?"] = (tally.refusals[code ?? "?"] ?? 0) + 1;
    const aborts = plan.actions.some((action) => "command" in action && action.command.type === "abort");
    if (aborts && code === "ERR_TRANSACTION_ABORTED") return;
    if (code === "ERR_GATE_HELD" && this.hanging) return;
    if (code === "ERR_BITMAP_SIZES" && this.plan.resize !== undefined) return; // planned before the resize
    // Two jobs of the round may want one mirror.
    if (code === "ERR_NODE_BUSY" && this.plan.kind === "chain") return;
    this.unexpected("a transaction", error);
  }

  /** Puts a transaction among the requests: at its instant if a freeze showed it. @param {{ command: import("./plan.mjs").CommandPlan | undefined, run: JobRun | undefined }[]} steps @param {number} from @param {number} to */
  #note(steps, from, to) {
    const { epoch } = this;
    const seen = steps
      .map(({ run }) => (run === undefined ? undefined : epoch.instants.get(run.plan.id)))
      .find((one) => one !== undefined);
    const span = seen === undefined ? { from, to } : { from: seen.at, to: seen.at };
    for (const [disk, instant] of seen?.disks ?? []) this.commands.push({ ...span, kind: "instant", disk, instant });
    for (const { command, run } of steps) {
      if (run !== undefined) this.#noteFreeze(run, span);
      if (command === undefined || command.type === "abort") continue;
      const ref = { disk: command.disk, name: command.name };
      const image = seen?.disks.get(command.disk)?.image;
      if (command.type === "add")
        this.commands.push({
          ...span,
          kind: "add",
          ref,
          granularity: command.granularity,
          disabled: command.disabled,
          image,
        });
      else if (command.type === "clear") this.commands.push({ ...span, kind: "clear", ref, image });
      else if (command.type === "merge") this.commands.push({ ...span, kind: "merge", ref, sources: command.sources });
      else this.commands.push({ ...span, kind: command.type, ref });
    }
  }

  /** @param {JobRun} run @param {{ from: number, to: number }} span */
  #noteFreeze(run, span) {
    const { plan } = run;
    const image = this.epoch.instants.get(plan.id)?.disks.get(plan.disk)?.image;
    if (image === undefined) {
      this.fail("a freeze was not shown to its observer", { job: plan.id });
      return;
    }
    run.frozen = image;
    if (plan.bitmap === undefined) return;
    const ref = { disk: plan.disk, name: plan.bitmap };
    this.commands.push({
      ...span,
      kind: "freeze",
      ref,
      image,
      bits: undefined,
      onFreeze: (bitmap) => {
        run.frozenGranules = bitmap.granules.slice();
        run.granularity = bitmap.granularity;
        run.checkpoint = bitmap.checkpoint?.subarray(0, bitmap.length);
      },
    });
  }

  /** @param {JobRun} run @param {import("../../packages/runtime/dist/index.js").Job} job */
  async #follow(run, job) {
    await run.drive(job);
    const { result, plan } = run;
    if (result === undefined) return;
    this.epoch.tally.ended(result.status, result.error);
    if (run.leaked) this.epoch.leaked = true;
    const at = board.tick(this.epoch.control);
    const span = { from: at, to: at };
    if (plan.bitmap === undefined) return;
    const ref = { disk: plan.disk, name: plan.bitmap };
    const outcome = outcomeOf(plan, result.status === "completed");
    const command = {
      ...span,
      kind: /** @type {const} */ ("end"),
      ref,
      outcome,
      uncopied: /** @type {Uint8Array | undefined} */ (undefined),
    };
    // What was not copied is known as far as the set goes; by then the freeze has been replayed.
    this.commands.push({ ...span, kind: "look", look: () => (command.uncopied = uncopiedAtMost(run)) }, command);
  }

  /** All parked: the log is replayed, everything is compared. */
  async #quiet() {
    const { epoch } = this;
    const parked = Promise.all([epoch.crew.park(10_000), epoch.mainGuest?.park()]);
    if (!(await within(parked, 11_000)) || !(await parked)[0]) {
      this.fail("a guest does not come back from its request", { stuck: epoch.crew.stuck() });
      return;
    }
    const { requests, cutOff } = epoch.crew.collect();
    for (const disk of epoch.disks) {
      // What movers wrote to a mirror, and when, is nobody's log.
      if (disk.mirror)
        requests[disk.index].push({
          begin: this.begun,
          end: board.tick(epoch.control),
          offset: 0,
          length: disk.length,
          sure: false,
        });
    }
    for (const run of this.runs) run.judge();
    const lengths = epoch.disks.map((disk) => disk.length);
    const replay = new Replay(epoch.bitmaps, requests, this.commands, lengths, (text, details) =>
      this.fail(text, details),
    );
    replay.run();
    await checkQuiet(this, replay, cutOff);
    for (const run of this.runs) {
      if (epoch.tally.failures.length > 0) return;
      checkRestored(run, (text, details) => this.fail(text, details));
      const bitmap = epoch.bitmaps.get(`${run.plan.disk}/${run.plan.bitmap}`);
      const kept = run.plan.mode === "always" && run.result?.status !== "completed" && bitmap !== undefined;
      if (kept) checkKept(run, bitmap, (text, details) => this.fail(text, details));
      if (epoch.tally.failures.length === 0) run.removeTarget();
      epoch.tally.checked("I2");
    }
    this.#groups();
    epoch.instants.clear();
  }

  /** A group has one outcome. */
  #groups() {
    const members = this.runs.filter((run) => run.grouped);
    const completed = members.filter((run) => run.result?.status === "completed").length;
    if (completed > 0 && completed < members.length)
      this.fail("a group ended mixed", { results: members.map((run) => run.result) });
  }
}

/** @param {import("./plan-job.mjs").JobPlan} plan @param {boolean} success @returns {"W" | "P|W" | "W|U"} the table of reference-semantics 2.3 */
function outcomeOf(plan, success) {
  if (plan.mode === "never") return "P|W";
  if (success) return "W";
  return plan.mode === "always" ? "W|U" : "P|W";
}

/** @param {JobRun} run @returns {Uint8Array | undefined} granules */
function uncopiedAtMost(run) {
  const { frozenGranules, frozen, granularity, plan } = run;
  if (frozenGranules === undefined || frozen === undefined) return undefined;
  if (plan.sync !== "bitmap" && plan.sync !== "incremental") return new Uint8Array(frozenGranules.length).fill(unknown);
  const clusterSize = Math.max(65536, /** @type {{ minClusterSize?: number }} */ (plan.options).minClusterSize ?? 0);
  const clusters = roundToClusters(frozenGranules, granularity, clusterSize, frozen.length);
  return frozenGranules.map((_, at) => {
    const first = Math.floor((at * granularity) / clusterSize);
    const last = Math.floor((Math.min((at + 1) * granularity, frozen.length) - 1) / clusterSize);
    return clusters.subarray(first, last + 1).some((one) => one !== 0) ? unknown : 0;
  });
}
