/**
 * Jobs: planned within a command, begun at its commit, driven by what their threads and users say, ended in one transition.
 * The job machine decides; this carries its effects out.
 */
import { inspect } from "node:util";
import { errnoText } from "@heirloom/block";
import { type MoverError, NoThread, type ThreadsEnd } from "@heirloom/engine";
import type { Coordinator } from "./coordinator.ts";
import { copiedBackup } from "./copied-backup.ts";
import type { DiskState } from "./disk-state.ts";
import type { Draft } from "./draft.ts";
import { invariant, refusal, RefusalError } from "./errors.ts";
import type { EventStream } from "./event-stream.ts";
import { JobEnding } from "./job-ending.ts";
import { flushFromTimeToTime, recordAll } from "./job-flushing.ts";
import { brokenText, why } from "./job-reasons.ts";
import { JobCounts } from "./figures.ts";
import { inspectJob, type JobInspection } from "./job-inspection.ts";
import { countSet, disksOf, type JobState, type JobTarget, jobLength, jobOffset } from "./job-state.ts";
import { lastingIdentity } from "./lasting-identity.ts";
import { type GroupEvent, groupMachine } from "./machines/group-machine.ts";
import type { JobContext, JobEffect, JobEvent } from "./machines/job-types.ts";
import { MachineActor, type Plan } from "./machines/machine-actor.ts";
import type { JobResult, OnOtherTarget } from "./options.ts";
import { planJob } from "./plan-job.ts";
import type { PreparedBackup } from "./prepared-backup.ts";
import { refuseTarget, targetRefusal } from "./refuse-target.ts";

const errnoNoSpace = 28;
/** A timer of Node's that is longer fires at once. */
const timerMost = 2 ** 31 - 1;
/** Between two looks for views that broke while a thread of their job hangs. */
const brokenLookMs = 200;
/** Dismissed jobs that can still be asked about. */
const endedKept = 32;

export class JobControl {
  readonly #coordinator: Coordinator;
  readonly #events: EventStream;
  readonly ending: JobEnding;
  #brokenWatch: NodeJS.Timeout | undefined;
  /** Members of a group that were told to commit, until all are. */
  readonly #deciding: JobState[] = [];
  readonly #ended: JobInspection[] = [];
  readonly counts: JobCounts = new JobCounts();

  constructor(coordinator: Coordinator, events: EventStream) {
    this.#coordinator = coordinator;
    this.#events = events;
    this.ending = new JobEnding(coordinator, (job, status) => this.#settled(job, status));
  }

  /** The last jobs that were dismissed, oldest first. */
  get ended(): readonly JobInspection[] {
    return [...this.#ended];
  }

  /** Checks a backup and plans its freeze. @throws RefusalError */
  plan(draft: Draft, backup: PreparedBackup, group: string | null): JobState {
    return planJob(this.#coordinator, draft, backup, group, (name, data) => this.#emit(name, data));
  }

  /** The command was given up: the job's memory goes back. Its target is whoever opened it to close. */
  discard(job: JobState): void {
    void job.view.release();
    this.#coordinator.world.starting.delete(job.id);
    for (const disk of disksOf(job)) this.#coordinator.unuse(disk, { kind: "job", id: job.id });
  }

  /**
   * The freeze is committed: jobs exist, and start.
   * @param folds of the same command, that a job's set may wait for
   */
  begin(jobs: readonly JobState[], closedMs: number, group: string | null, folds: Promise<void> | undefined): void {
    const { world, now } = this.#coordinator;
    if (group !== null && jobs.length > 0) {
      const members = jobs.map((job) => ({ job: job.id, manual: !job.request.autoFinalize }));
      world.groups.set(group, new MachineActor(`group ${group}`, groupMachine, { id: group, members }, { now }));
    }
    for (const job of jobs) {
      job.freezeMs = closedMs;
      job.setClusters = countSet(job);
      world.jobs.set(job.id, job);
      world.starting.delete(job.id);
      this.counts.started++;
      this.#emit("BACKUP_STARTED", { job: job.id, disk: job.disk.name, ...why(job) });
      for (const effect of job.actor.initialEffects) this.#carryOut(job, effect);
    }
    const start = (): void => {
      for (const job of jobs) this.#sendIfPossible(job, { type: "start" });
    };
    if (folds === undefined) start();
    else void folds.then(start);
    this.#watchBroken();
    // A forced detach that came while the gate was still held found no job to cancel.
    for (const job of jobs) {
      if ([...disksOf(job)].some((disk) => disk.actor.state !== "open")) this.cancelIfPossible(job.id);
    }
  }

  /** Jobs that come back with their disk: paused, their views armed, until they are resumed with their target. */
  beginAgain(jobs: readonly JobState[]): void {
    const { world, now } = this.#coordinator;
    for (const job of jobs) {
      const { resumable } = job;
      invariant(resumable !== undefined, "only a resumable job comes back");
      job.setClusters = countSet(job);
      world.jobs.set(job.id, job);
      job.disk.actor.send({ type: "use", user: { kind: "job", id: job.id } });
      for (const effect of job.actor.initialEffects) this.#carryOut(job, effect);
      this.send(job, { type: "pause", user: true });
      this.send(job, { type: "start" });
      const since = now() - resumable.waitingSince;
      this.#giveUpAfter(job, Math.max(0, resumable.settings.resumeTimeoutMs - since));
    }
    if (jobs.length > 0) this.#watchBroken();
  }

  /** A job that nobody resumes is reclaimed: it holds its bitmap and its spill. */
  #giveUpAfter(job: JobState, milliseconds: number): void {
    const due = this.#coordinator.now() + milliseconds;
    const look = (): void => {
      const left = due - this.#coordinator.now();
      if (left <= 0) this.#sendIfPossible(job, { type: "fail", error: "nobody resumed it in time" });
      else job.resumeTimer = setTimeout(look, Math.min(left, timerMost)).unref();
    };
    job.resumeTimer = setTimeout(look, Math.min(milliseconds, timerMost)).unref();
  }

  /**
   * The target of a job that waits for it.
   * @param onOther whether the job is given up where it is another one, or waits on
   * @throws RefusalError: it is another one, or it cannot be written now
   */
  adoptTarget(id: string, target: JobTarget, onOther: OnOtherTarget = "give-up"): void {
    const { world, engine } = this.#coordinator;
    const job = this.#find(id, "job resume");
    if (!job.awaitsTarget || job.resumable === undefined || job.decided !== undefined)
      throw targetRefusal(job, `Job '${id}' has its target already`);
    const { label, node } = target;
    if (lastingIdentity(node, target.length) !== job.resumable.target) {
      const alone = `Job '${id}' goes on with its target '${job.resumable.targetName}' alone, not with '${label}'`;
      if (onOther === "refuse") throw targetRefusal(job, `${alone}; it waits on`);
      const desc = `${alone}: it was given up`;
      this.#sendIfPossible(job, { type: "fail", error: desc });
      throw targetRefusal(job, desc);
    }
    const refused = refuseTarget(world, job, target);
    if (refused !== undefined) throw targetRefusal(job, `Job '${id}' cannot go on with '${label}': ${refused}`);
    if (!engine.pool.canStart(job.movers.threads))
      throw targetRefusal(job, `Job '${id}' cannot go on: there are not enough threads left for it`);
    job.target = target;
    job.awaitsTarget = false;
    job.resumable.waitingSince = 0;
    clearTimeout(job.resumeTimer);
    target.disk?.actor.send({ type: "use", user: { kind: "job", id } });
    const { bitmap } = job;
    if (bitmap !== undefined)
      void this.#coordinator.keeping.alone(new Set([job.disk]), () => this.#coordinator.keeping.settled([bitmap]));
  }

  /** A disk that is attached and is what the job waits for. */
  #awaitedDisk({ resumable }: JobState): JobTarget | undefined {
    for (const disk of this.#coordinator.world.disks.values()) {
      const { length } = disk.layer.table;
      if (lastingIdentity(disk.node, length) === resumable?.target)
        return { name: disk.name, label: disk.name, node: disk.node, length, disk };
    }
    return undefined;
  }

  #watchBroken(): void {
    this.#brokenWatch ??= setInterval(() => this.#lookForBroken(), brokenLookMs).unref();
  }

  /**
   * A view that breaks ends its job's threads, and their end fails the job; but one that hangs in its target does not end.
   * So a view that is found broken twice fails its job from here.
   */
  #lookForBroken(): void {
    const { jobs } = this.#coordinator.world;
    const open = [...jobs.values()].filter((job) => job.decided === undefined && !job.left);
    if (open.length === 0) {
      clearInterval(this.#brokenWatch);
      this.#brokenWatch = undefined;
    }
    for (const job of open) {
      const { broken, allFlushed } = job.view;
      if (broken === undefined || allFlushed) continue;
      if (job.brokenSeen) this.#sendIfPossible(job, { type: "fail", error: brokenText(broken.reason, broken.errno) });
      job.brokenSeen = true;
    }
  }

  /** A user's verb. @throws RefusalError */
  verb(id: string, operation: string, event: JobEvent): void {
    const job = this.#find(id, operation);
    if (job.left) this.#coordinator.refuseClosing(job.disk, false, operation);
    const plan = job.actor.plan(event);
    if (!plan.ok) throw new RefusalError(operation, plan.refusal);
    if (event.type === "resume" && job.awaitsTarget) {
      const target = this.#awaitedDisk(job);
      if (target === undefined)
        throw targetRefusal(
          job,
          `Job '${id}' waits for its target '${job.resumable?.targetName ?? ""}', which is not there`,
        );
      this.adoptTarget(id, target);
    }
    this.#send(job, event, operation);
  }

  #find(id: string, operation: string): JobState {
    const job = this.#coordinator.world.jobs.get(id);
    if (job !== undefined) return job;
    throw new RefusalError(operation, refusal("ERR_JOB_NOT_FOUND", "Job not found", { job: id }));
  }

  /** An event for a job that accepts it; what it brings about is carried out before this returns. */
  send(job: JobState, event: JobEvent): void {
    this.#send(job, event, `job ${event.type}`);
  }

  #send(job: JobState, event: JobEvent, operation: string): void {
    const plan = job.actor.plan(event);
    if (!plan.ok) throw new RefusalError(operation, plan.refusal);
    this.#commit(job, plan);
  }

  #commit(job: JobState, plan: Plan<JobContext, JobEvent, JobEffect>): void {
    job.actor.commit(plan);
    for (const effect of plan.effects) this.#carryOut(job, effect);
  }

  /** Force; nothing if the job is over, or its success decided. */
  cancelIfPossible(id: string): void {
    const job = this.#coordinator.world.jobs.get(id);
    if (job !== undefined) this.#sendIfPossible(job, { type: "cancel", force: true });
  }

  /** The disk goes. A resumable job stays in its journal; any other is cancelled. */
  leaveIfPossible(id: string, disk?: DiskState): void {
    const job = this.#coordinator.world.jobs.get(id);
    if (job === undefined || job.left || (disk !== undefined && job.disk !== disk)) return this.cancelIfPossible(id);
    const atWork = job.actor.state === "running" || job.actor.state === "paused";
    if (job.resumable?.records === undefined || job.decided !== undefined || !atWork) return this.cancelIfPossible(id);
    void this.ending
      .leave(job)
      .catch(() => (job.left = false))
      .then((left) => {
        if (left) this.counts.ended.left++;
        else this.cancelIfPossible(id);
      });
  }

  #sendIfPossible(job: JobState, event: JobEvent): void {
    if (job.left) return;
    const plan = job.actor.plan(event);
    if (plan.ok) this.#commit(job, plan);
  }

  #carryOut(job: JobState, effect: JobEffect): void {
    switch (effect.type) {
      case "status":
        this.#emit("JOB_STATUS_CHANGE", { id: job.id, status: effect.status });
        return;
      case "event":
        this.#notice(job, effect);
        return;
      case "start-copying":
        this.#startCopying(job, effect.paused, effect.speed);
        return;
      case "pause-copying":
        job.view.pause();
        return;
      case "resume-copying":
        job.view.resume();
        if (job.resumable !== undefined && !job.view.isMoving) this.#startCopying(job, false, job.actor.context.speed);
        return;
      case "set-speed":
        job.view.setSpeed(effect.speed);
        return;
      case "decide":
        if (job.actor.context.group === null || effect.outcome !== "success")
          void this.ending.end([job], effect.outcome);
        else this.#deciding.push(job);
        return;
      case "wait-for-group":
        this.#tellGroup(effect.group, { type: "memberWaiting", job: job.id });
        return;
      case "finalize-group":
        this.#tellGroup(effect.group, { type: "finalize" });
        return;
      case "cancel-group":
        this.#tellGroup(effect.group, { type: "memberFailed", job: job.id });
        return;
      case "release":
        return; // the view has left the table; its threads let go on their own (see #end)
      case "forget":
        this.#coordinator.world.jobs.delete(job.id);
        this.#ended.push(inspectJob(job));
        if (this.#ended.length > endedKept) this.#ended.shift();
        return;
    }
  }

  #notice(job: JobState, effect: Extract<JobEffect, { type: "event" }>): void {
    const data: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(effect)) {
      if (key === "jobType") data["type"] = value;
      else if (key !== "type" && key !== "name") data[key] = value;
    }
    if (effect.name === "BLOCK_JOB_COMPLETED" || effect.name === "BLOCK_JOB_CANCELLED") {
      data["offset"] = jobOffset(job);
      data["len"] = jobLength(job);
    }
    this.#emit(effect.name, data);
  }

  #startCopying(job: JobState, paused: boolean, speed: number): void {
    if (paused) job.view.pause();
    if (job.awaitsTarget) return; // its threads start when it has one
    const { bitmap, request, target } = job;
    if (request.copies && job.setClusters === 0) {
      void this.#finishEmpty(job);
      return;
    }
    const joined = bitmap !== undefined && request.set === "bitmap" && job.view.memory.set === undefined;
    const scan = request.set === "allocated" ? "allocated" : joined ? bitmap.memory.bits.bitmap.handle : undefined;
    const at =
      target.disk === undefined ? { node: target.node } : { disk: target.disk.layer.stack.address(target.disk.layer) };
    try {
      const ended = job.view.startMovers({ target: at, scan, speed, ...job.movers }, (error) =>
        this.#onError(job, error),
      );
      void ended.then((end) => this.#threadsEnded(job, end));
      flushFromTimeToTime(this.#coordinator.engine, job, (errno) =>
        this.#onError(job, { operation: "flush", errno, offset: 0, action: "report" }),
      );
    } catch (error) {
      if (!(error instanceof NoThread)) throw error;
      queueMicrotask(() => this.#sendIfPossible(job, { type: "fail", error: error.message }));
    }
  }

  /** Nothing to copy: no thread is started for it. The target is flushed all the same. */
  async #finishEmpty(job: JobState): Promise<void> {
    const errno = await this.ending.flush(job);
    if (errno === 0) await this.#allCopied(job);
    else this.#onError(job, { operation: "flush", errno, offset: 0, action: "report" });
  }

  #onError(job: JobState, error: MoverError): void {
    if (error.action === "report") job.error ??= error;
    const event = {
      type: "ioError",
      operation: error.operation === "read" ? "read" : "write",
      action: error.action,
      noSpace: error.errno === errnoNoSpace,
      error: errnoText(error.errno),
    } as const;
    if (job.actor.can(event)) this.send(job, event);
  }

  #threadsEnded(job: JobState, end: ThreadsEnd): void {
    if (job.decided !== undefined || job.left) return;
    if (job.view.allFlushed) {
      void this.#allCopied(job);
      return;
    }
    const { broken } = job.view;
    const reason =
      end === "died"
        ? "a thread of the job died"
        : broken === undefined
          ? "the job's threads ended before everything was copied"
          : brokenText(broken.reason, broken.errno);
    // The errors of a thread arrive by its port: let those that are on their way come first.
    setImmediate(() => this.#sendIfPossible(job, { type: "fail", error: reason }));
  }

  async #allCopied(job: JobState): Promise<void> {
    try {
      await job.onCopied?.(copiedBackup(this.#coordinator.engine, job));
    } catch (error) {
      // A user's code may throw anything.
      const text = error instanceof Error ? error.message : inspect(error);
      this.#sendIfPossible(job, { type: "fail", error: text });
      return;
    }
    if (await recordAll(job)) this.#sendIfPossible(job, { type: "allCopied" });
    else this.#sendIfPossible(job, { type: "fail", error: "what it has copied could not be recorded" });
  }

  #tellGroup(id: string, event: GroupEvent): void {
    const group = this.#coordinator.world.groups.get(id);
    if (group === undefined) return;
    const plan = group.plan(event);
    if (!plan.ok) {
      if (event.type === "finalize") throw new RefusalError("job finalize", plan.refusal);
      return; // a member's end that the group has heard of already
    }
    group.commit(plan);
    for (const effect of plan.effects) {
      if (effect.type === "dissolve") {
        this.#coordinator.world.groups.delete(id);
        continue;
      }
      const type = effect.type === "pend" ? "groupReady" : effect.type === "commit" ? "commit" : "peerFailed";
      for (const member of effect.jobs) this.#sendIfPossible(this.#job(member), { type });
      if (effect.type === "commit") void this.ending.end(this.#deciding.splice(0), "success");
    }
  }

  #settled(job: JobState, status: JobResult["status"]): void {
    this.counts.ended[status]++;
    const { group } = job.actor.context;
    this.send(job, { type: "settled" });
    for (const disk of disksOf(job)) this.#coordinator.unuse(disk, { kind: "job", id: job.id });
    if (group !== null) this.#tellGroup(group, { type: "memberSettled", job: job.id });
  }

  #job(id: string): JobState {
    const job = this.#coordinator.world.jobs.get(id);
    invariant(job !== undefined, "a job that acts exists");
    return job;
  }

  #emit(name: string, data: Readonly<Record<string, unknown>>): void {
    this.#events.emit({ at: this.#coordinator.now(), name, data });
  }
}
