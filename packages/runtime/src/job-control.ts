/**
 * Jobs: planned within a command, begun at its commit, driven by what their threads and users say, ended in one transition.
 * The job machine decides; this carries its effects out.
 */
import { errnoText } from "@heirloom/block";
import { copiedRanges, foldUncopied, type MoverError, NoThread, type ThreadsEnd } from "@heirloom/engine";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import type { Draft } from "./draft.ts";
import { invariant, refusal, RefusalError, unwrap } from "./errors.ts";
import type { EventStream } from "./event-stream.ts";
import { type JobState, jobLength, jobOffset } from "./job-state.ts";
import { type GroupEvent, groupMachine } from "./machines/group-machine.ts";
import { jobMachine } from "./machines/job-machine.ts";
import type { JobDecision, JobEffect, JobEvent } from "./machines/job-types.ts";
import { MachineActor } from "./machines/machine-actor.ts";
import type { CopiedBackup, JobResult } from "./options.ts";
import type { PreparedBackup } from "./prepared-backup.ts";
import { checkBackup, type NormalizedBackup } from "./validation/backup-request.ts";
import { bitmapOutcome, outcomeEvent } from "./validation/outcome.ts";
import { factsOf } from "./world.ts";
import { refuseView } from "./refuse-view.ts";

const errnoNoSpace = 28;
const errnoIo = 5;
/** A last flush, so that what is on the target counts for bitmap-mode always, may take this long. */
const lastFlushMs = 2000;
/** Between two looks for views that broke while a thread of their job hangs. */
const brokenLookMs = 200;
/** `done` waits this long for the target to be let go of. */
const lettingGoMs = 250;
const runBytesDefault = 1024 * 1024;

export class JobControl {
  readonly #coordinator: Coordinator;
  readonly #events: EventStream;
  /** Ended jobs whose threads have not all let go. */
  readonly #releasing = new Map<Promise<void>, ReadonlySet<DiskState>>();
  /** The same by the identity of the target. */
  readonly #letGoOf = new Map<string, Promise<void>>();
  #brokenWatch: NodeJS.Timeout | undefined;
  /** Members of a group that were told to commit, until all are. */
  readonly #deciding: JobState[] = [];

  constructor(coordinator: Coordinator, events: EventStream) {
    this.#coordinator = coordinator;
    this.#events = events;
  }

  /** Checks a backup and plans its freeze. @throws RefusalError */
  plan(draft: Draft, backup: PreparedBackup, siblings: readonly JobState[], group: string | null): JobState {
    const { world, engine, now } = this.#coordinator;
    const targets = [backup.target, ...siblings.map((job) => job.target)];
    const facts = factsOf(world, draft, targets, draft.command);
    const taken = (id: string): boolean => facts.job(id) || siblings.some((job) => job.id === id);
    const request = unwrap("backup", checkBackup(backup.request, { ...facts, job: taken }));
    const twice = siblings.find((job) => job.target.node.identity === backup.target.node.identity);
    if (twice !== undefined) {
      const desc = `Node '${backup.target.name}' is busy: block device is in use by block job: backup`;
      throw new RefusalError("backup", refusal("ERR_NODE_BUSY", desc, { node: backup.target.name, job: twice.id }));
    }
    const disk = this.#coordinator.disk(request.source, "backup");
    if (backup.target.disk !== undefined) this.#coordinator.refuseClosing(backup.target.disk, true, "backup");
    const alignment = Math.max(disk.node.alignment, backup.target.node.alignment);
    refuseView("backup", disk.layer, request.clusterSize, alignment);
    const bitmap = request.bitmap === null ? undefined : draft.bitmap(disk, request.bitmap.name);
    const settled = bitmap === undefined || draft.snapshotOf(bitmap).context.folds === 0;
    if (bitmap !== undefined && request.bitmap !== null) {
      const user = { kind: "job", id: request.jobId } as const;
      draft.plan(bitmap, { type: "freeze", user, mode: request.bitmap.mode, command: draft.command });
    }
    const set = request.set === "bitmap" && settled && bitmap !== undefined ? draft.memoryOf(bitmap).bits : undefined;
    const view = engine.view(
      disk.layer,
      {
        length: disk.layer.table.length,
        clusterSize: request.clusterSize,
        alignment,
        guestDelayMaxMs: backup.guestDelayMaxMs,
        breakGuestWrite: backup.breakGuestWrite,
        spillMemory: backup.spillMemory,
        spillFile: backup.spillFile,
      },
      set,
      backup.spill,
      (error) => this.#emit("SPILL_REFUSED", { job: request.jobId, error: error.message }),
    );
    draft.addView(disk, view);
    const { promise, resolve } = withResolvers<JobResult>();
    const input = {
      id: request.jobId,
      speed: request.speed,
      autoFinalize: request.autoFinalize,
      autoDismiss: request.autoDismiss,
      group,
    };
    const job: JobState = {
      id: request.jobId,
      actor: new MachineActor(`job ${request.jobId}`, jobMachine, input, { now }),
      request,
      disk,
      bitmap,
      target: backup.target,
      view,
      movers: {
        ...backup.movers,
        runBytesMax: request.maxChunk === 0 ? runBytesDefault : request.maxChunk,
        copies: request.copies,
        onSourceError: policyOf(request.onSourceError),
        onTargetError: policyOf(request.onTargetError),
      },
      onCopied: backup.onCopied,
      done: promise,
      finish: resolve,
      setClusters: 0,
      error: undefined,
      safe: undefined,
      decided: undefined,
      brokenSeen: false,
      flushing: undefined,
      ended: undefined,
      freezeMs: 0,
      endMs: 0,
    };
    // From here on, and not from the commit: a detach must not come in between.
    for (const used of disksOf(job)) used.actor.send({ type: "use", user: { kind: "job", id: job.id } });
    return job;
  }

  /** The command was given up: the job's memory goes back. Its target is whoever opened it to close. */
  discard(job: JobState): void {
    void job.view.release();
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
      this.#emit("BACKUP_STARTED", { job: job.id, disk: job.disk.name, ...why(job) });
      for (const effect of job.actor.initialEffects) this.#carryOut(job, effect);
    }
    const start = (): void => {
      for (const job of jobs) this.#sendIfPossible(job, { type: "start" });
    };
    if (folds === undefined) start();
    else void folds.then(start);
    this.#brokenWatch ??= setInterval(() => this.#lookForBroken(), brokenLookMs).unref();
    // A forced detach that came while the gate was still held found no job to cancel.
    for (const job of jobs) {
      if ([...disksOf(job)].some((disk) => disk.actor.state !== "open")) this.cancelIfPossible(job.id);
    }
  }

  /**
   * A view that breaks ends its job's threads, and their end fails the job; but one that hangs in its target does not end.
   * So a view that is found broken twice fails its job from here.
   */
  #lookForBroken(): void {
    const { jobs } = this.#coordinator.world;
    const open = [...jobs.values()].filter((job) => job.decided === undefined);
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
    const job = this.#coordinator.world.jobs.get(id);
    if (job === undefined)
      throw new RefusalError(operation, refusal("ERR_JOB_NOT_FOUND", "Job not found", { job: id }));
    const plan = job.actor.plan(event);
    if (!plan.ok) throw new RefusalError(operation, plan.refusal);
    this.send(job, event);
  }

  /** An event for a job that accepts it; what it brings about is carried out before this returns. */
  send(job: JobState, event: JobEvent): void {
    const plan = job.actor.plan(event);
    if (!plan.ok) throw new RefusalError(`job ${event.type}`, plan.refusal);
    job.actor.commit(plan);
    for (const effect of plan.effects) this.#carryOut(job, effect);
  }

  /** Resolves when the threads of ended jobs have let go: of this disk, or of all. */
  async released(disk?: DiskState): Promise<void> {
    await Promise.all(
      [...this.#releasing].filter(([, disks]) => disk === undefined || disks.has(disk)).map(([letGo]) => letGo),
    );
  }

  /** Resolves when no ended job's thread has this target any more, or after the time: threads that do not hang take a moment. */
  async targetFree(identity: string, timeoutMs: number): Promise<void> {
    const letGo = this.#letGoOf.get(identity);
    if (letGo !== undefined) await Promise.race([letGo, delay(timeoutMs)]);
  }

  /** Force; nothing if the job is over, or its success decided. */
  cancelIfPossible(id: string): void {
    const job = this.#coordinator.world.jobs.get(id);
    if (job !== undefined) this.#sendIfPossible(job, { type: "cancel", force: true });
  }

  #sendIfPossible(job: JobState, event: JobEvent): void {
    if (job.actor.can(event)) this.send(job, event);
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
        return;
      case "set-speed":
        job.view.setSpeed(effect.speed);
        return;
      case "decide":
        if (job.actor.context.group === null || effect.outcome !== "success") void this.#end([job], effect.outcome);
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
        return;
    }
  }

  #notice(job: JobState, effect: Extract<JobEffect, { type: "event" }>): void {
    const { type: _, name, jobType, ...data } = { jobType: undefined, ...effect };
    const counts = name === "BLOCK_JOB_COMPLETED" || name === "BLOCK_JOB_CANCELLED";
    this.#emit(name, {
      ...(jobType === undefined ? {} : { type: jobType }),
      ...data,
      ...(counts ? { offset: jobOffset(job), len: jobLength(job) } : {}),
    });
  }

  #startCopying(job: JobState, paused: boolean, speed: number): void {
    if (paused) job.view.pause();
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
      const ended = job.view.startMovers({ ...job.movers, target: at, scan, speed }, (error) =>
        this.#onError(job, error),
      );
      void ended.then((end) => this.#threadsEnded(job, end));
    } catch (error) {
      if (!(error instanceof NoThread)) throw error;
      queueMicrotask(() => this.#sendIfPossible(job, { type: "fail", error: error.message }));
    }
  }

  /** Nothing to copy: no thread is started for it. The target is flushed all the same. */
  async #finishEmpty(job: JobState): Promise<void> {
    const errno = await this.#flush(job);
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
    if (job.decided !== undefined) return;
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
      await job.onCopied?.(this.#copied(job));
    } catch (error) {
      this.#sendIfPossible(job, { type: "fail", error: (error as Error).message });
      return;
    }
    this.#sendIfPossible(job, { type: "allCopied" });
  }

  #copied(job: JobState): CopiedBackup {
    return {
      job: job.id,
      length: job.view.memory.view.length,
      clusterSize: job.request.clusterSize,
      extents: async () => {
        const ranges = [...copiedRanges(job.view.memory.view)].flatMap(({ offset, length }) => [offset, length]);
        const found = await this.#coordinator.engine.nodeStatus(job.target.node, Float64Array.from(ranges));
        const extents = [];
        for (let at = 0; at < found.length; at += 3)
          extents.push({ offset: found[at], length: found[at + 1], zero: found[at + 2] !== 0 });
        return extents;
      },
    };
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
      if (effect.type === "commit") void this.#end(this.#deciding.splice(0), "success");
    }
  }

  /**
   * The end: one transition in which the views stop and leave, and the bitmaps abdicate or are reclaimed, for all members of a
   * group at once. It goes on trying; from the decision on nothing changes the outcome.
   */
  async #end(jobs: readonly JobState[], outcome: JobDecision): Promise<void> {
    for (const job of jobs) job.decided = outcome;
    if (outcome !== "success") await Promise.all(jobs.map((job) => this.#coverByFlush(job)));
    const { engine } = this.#coordinator;
    const draft = this.#coordinator.draft(this.#coordinator.nextCommand(), "backup");
    await engine.transitions.run({
      name: outcome === "success" ? "abdicate" : "reclaim",
      stacks: [...new Set(jobs.map((job) => job.disk.layer.stack))],
      prepare: () => {
        for (const job of jobs) {
          draft.removeView(job.disk, job.view);
          const event = endEvent(job, outcome);
          if (job.bitmap !== undefined && event !== undefined)
            draft.plan(job.bitmap, { ...event, command: draft.command });
        }
        return {
          tables: draft.tables(),
          commit: () => {
            for (const job of jobs) job.view.stop();
          },
          committed: ({ closedMs }) => {
            for (const job of jobs) {
              job.view.wake();
              job.endMs = closedMs;
            }
            draft.commit();
            const later = this.#coordinator.runFolds(draft.folds, (bitmap) => {
              const job = jobs.find((one) => one.bitmap === bitmap);
              invariant(job !== undefined, "what was not copied is a job's");
              this.#foldUncopied(job);
            });
            const settle = (): void => {
              for (const job of jobs) this.#settle(job, outcome);
            };
            if (later === undefined) settle();
            else void later.then(settle);
          },
        };
      },
    });
  }

  #flush(job: JobState): Promise<number> {
    const flush = this.#coordinator.engine.flushNode(job.target.node).catch(() => errnoIo);
    job.flushing = flush;
    return flush;
  }

  /** Bitmap-mode always keeps what reached the target, if a flush covers it: tried once, for a bounded time. */
  async #coverByFlush(job: JobState): Promise<void> {
    if (job.request.bitmap?.mode !== "always" || job.actor.state === "created") return;
    if (job.view.copiedClusters === 0) return;
    const snapshot = job.view.copiedSnapshot();
    const { promise, resolve } = withResolvers<number>();
    const timer = setTimeout(() => resolve(-1), lastFlushMs);
    const errno = await Promise.race([this.#flush(job), promise]);
    clearTimeout(timer);
    if (errno === 0) job.safe = snapshot;
  }

  #foldUncopied(job: JobState): void {
    const { view } = job.view.memory;
    invariant(job.bitmap !== undefined, "only a job with a bitmap keeps what was not copied");
    foldUncopied(job.bitmap.memory.bits.bitmap, view, job.safe ?? new Int32Array(view.copied.length));
  }

  #settle(job: JobState, outcome: JobDecision): void {
    const { world, engine } = this.#coordinator;
    const { group } = job.actor.context;
    const { identity } = job.target.node;
    job.ended = { offset: jobOffset(job), length: jobLength(job) };
    world.lettingGo.set(identity, job.id);
    const letGo = Promise.all([job.view.release(), job.flushing]).then(async () => {
      if (job.target.disk === undefined) await engine.closeNode(job.target.node).catch(() => {});
      world.lettingGo.delete(identity);
      this.#letGoOf.delete(identity);
    });
    this.#letGoOf.set(identity, letGo);
    this.#releasing.set(letGo, disksOf(job));
    void letGo.finally(() => this.#releasing.delete(letGo));
    this.send(job, { type: "settled" });
    for (const disk of disksOf(job)) this.#coordinator.unuse(disk, { kind: "job", id: job.id });
    if (group !== null) this.#tellGroup(group, { type: "memberSettled", job: job.id });
    const { cancelled, error } = job.actor.context;
    const result: JobResult = {
      id: job.id,
      status: outcome === "success" ? "completed" : cancelled ? "cancelled" : "failed",
      error,
      offset: jobOffset(job),
      length: jobLength(job),
      freezeMs: job.freezeMs,
      endMs: job.endMs,
    };
    // Whoever waits for the end finds the target free, unless a thread hangs there.
    void Promise.race([letGo, delay(lettingGoMs)]).then(() => job.finish(result));
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

/** The attached disks that a job uses. */
function disksOf(job: JobState): ReadonlySet<DiskState> {
  return new Set(job.target.disk === undefined ? [job.disk] : [job.disk, job.target.disk]);
}

function endEvent(job: JobState, outcome: JobDecision): ReturnType<typeof outcomeEvent> {
  if (job.request.bitmap === null) return undefined;
  // It never started: nothing of it counts, as if it had been refused.
  if (outcome === "rolled-back") return { type: "reclaim" };
  const { sync } = job.request;
  const result = bitmapOutcome(sync, job.request.bitmap.mode, outcome === "success" ? "success" : "failure");
  invariant(result !== undefined, "the pair of sync and bitmap-mode was checked");
  return outcomeEvent(result);
}

function countSet(job: JobState): number {
  const { view } = job.view.memory;
  if (view.set === undefined) return view.clusters;
  let clusters = 0;
  let counted = 0; // clusters below this are counted: extents may share a unit
  for (const { offset, length } of view.set.extents()) {
    const first = Math.max(counted, (offset - (offset % view.setUnit)) / view.clusterSize);
    const unitEnd = Math.ceil((offset + length) / view.setUnit) * view.setUnit;
    const end = Math.min(view.clusters, unitEnd / view.clusterSize);
    if (end > first) clusters += end - first;
    counted = Math.max(counted, end);
  }
  return clusters;
}

/** For events and for people: why a backup copies what it copies. */
function why(job: JobState): Record<string, unknown> {
  const { request, bitmap } = job;
  return {
    sync: request.sync,
    bytes: jobLength(job),
    reason:
      bitmap === undefined
        ? `sync ${request.sync} without a bitmap`
        : request.set === "bitmap"
          ? `what bitmap ${bitmap.name} says changed since its last backup`
          : `sync ${request.sync}: bitmap ${bitmap.name} begins anew when it succeeds`,
  };
}

function policyOf(policy: NormalizedBackup["onSourceError"]): "report" | "ignore" | "stop" | "enospc" {
  return policy === "auto" ? "enospc" : policy;
}

function brokenText(reason: string, errno: number): string {
  const because: Record<string, string> = {
    "spill-full": "the spill was full for longer than a guest may wait",
    "source-unreadable": `old data could not be read (${errnoText(errno)})`,
    "thread-died": "a thread that served the disk died",
    "spill-failed": `the spill file failed (${errnoText(errno)})`,
  };
  return `the point in time was given up: ${because[reason] ?? reason}`;
}

function withResolvers<Value>(): { promise: Promise<Value>; resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => {};
  const promise = new Promise<Value>((fulfil) => (resolve = fulfil));
  return { promise, resolve };
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}
