/**
 * How jobs end: one transition, then the folds, then the events, and at last the threads let go of view and target. From the
 * decision on nothing changes the outcome.
 */
import { SharedBitmap } from "@heirloom/bitmap";
import { copiedRanges, foldUncopied } from "@heirloom/engine";
import type { BitmapState } from "./bitmap-memory.ts";
import { interruptNbd } from "@heirloom/nbd";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { invariant } from "./errors.ts";
import { endReason } from "./job-reasons.ts";
import { disksOf, type DiskUse, type JobState, jobLength, jobOffset, usesOf } from "./job-state.ts";
import { flushTarget } from "./job-flushing.ts";
import type { JobDecision } from "./machines/job-types.ts";
import type { JobResult } from "./options.ts";
import type { Resumable } from "./resumable.ts";
import { bitmapOutcome, outcomeEvent } from "./validation/outcome.ts";
import { within, withResolvers } from "./waiting.ts";

const errnoIo = 5;
/** A last flush, so that what is on the target counts for bitmap-mode always, may take this long. */
const lastFlushMs = 2000;
/** Whoever writes down what a failed job has left may take this long. */
const keptMs = 10_000;
/** `done` waits this long for the target to be let go of. */
const lettingGoMs = 250;

export class JobEnding {
  readonly #coordinator: Coordinator;
  /** Tells the job's actor and its group: before the result is handed out. */
  readonly #onSettled: (job: JobState, status: JobResult["status"]) => void;
  /** Ended jobs whose threads have not all let go, and the disks that these use. */
  readonly #releasing = new Map<Promise<void>, ReadonlyMap<DiskState, DiskUse>>();
  /** The same by the identity of the target. */
  readonly #letGoOf = new Map<string, Promise<void>>();

  constructor(coordinator: Coordinator, onSettled: (job: JobState, status: JobResult["status"]) => void) {
    this.#coordinator = coordinator;
    this.#onSettled = onSettled;
  }

  /**
   * Resolves when the threads of ended jobs have let go: of this disk, or of all.
   * @param use where given, only threads that may use it so are waited for
   */
  async released(disk?: DiskState, use?: DiskUse): Promise<void> {
    const waits = ([, uses]: [Promise<void>, ReadonlyMap<DiskState, DiskUse>]): boolean =>
      disk === undefined || (use === undefined ? uses.has(disk) : uses.get(disk) === use);
    await Promise.all([...this.#releasing].filter(waits).map(([letGo]) => letGo));
  }

  /** Whether a thread of an ended job has not let go of this disk. */
  holds(disk: DiskState): boolean {
    return [...this.#releasing.values()].some((uses) => uses.has(disk));
  }

  /** Resolves when no ended job's thread has this target any more, or after the time: threads that do not hang take a moment. */
  async targetFree(identity: string, timeoutMs: number): Promise<void> {
    const letGo = this.#letGoOf.get(identity);
    if (letGo !== undefined) await within(timeoutMs, letGo, { keepsAlive: false });
  }

  /**
   * The end, for all members of a group at once: the views stop and leave, the bitmaps abdicate or are reclaimed. It goes on trying;
   * from the decision on nothing changes the outcome.
   *
   * Where no bitmap that abdicates is persistent it is one transition. Else it is two: the first decides and stops the views,
   * bitmaps stay frozen and their successors record; then the record is made durable; the second makes memory follow.
   */
  async end(jobs: readonly JobState[], outcome: JobDecision): Promise<void> {
    for (const job of jobs) job.decided = outcome;
    if (outcome !== "success") await Promise.all(jobs.map((job) => this.#keepWhatIsSafe(job, outcome)));
    const kept = jobs.flatMap(({ bitmap }) => (bitmap?.actor.context.persistent === true ? [bitmap] : []));
    if (kept.length === 0) {
      await this.#endAtOnce(jobs, outcome);
      return;
    }
    const disks = new Set(jobs.map((job) => job.disk));
    await this.#coordinator.keeping.alone(disks, async () => {
      if (outcome !== "success") await this.#coordinator.keeping.notResumed(jobs);
      const heirs = jobs.filter((job) => isHeir(job, outcome));
      if (heirs.length > 0) await this.#endInTwo(jobs, heirs, outcome);
      else await this.#endAtOnce(jobs, outcome, kept);
    });
  }

  /** Resolves when memory has followed. */
  async #endInTwo(jobs: readonly JobState[], heirs: readonly JobState[], outcome: JobDecision): Promise<void> {
    const { engine, keeping } = this.#coordinator;
    const stacks = [...new Set(jobs.map((job) => job.disk.layer.stack))];
    const deciding = this.#coordinator.draft(this.#coordinator.nextCommand(), "backup");
    await engine.transitions.run({
      name: outcome === "success" ? "decide" : "stop",
      stacks,
      prepare: () => {
        for (const job of jobs) deciding.removeView(job.disk, job.view);
        return {
          tables: deciding.tables(),
          commit: () => {
            for (const job of jobs) job.view.stop();
          },
          committed: ({ closedMs }) => {
            for (const job of jobs) {
              job.view.wake();
              job.endMs = closedMs;
            }
          },
        };
      },
    });
    // What was not copied is in the successor before the record says that the successor is the bitmap.
    for (const job of heirs) if (endEvent(job, outcome)?.type === "abdicate") await this.#keepUncopied(job, outcome);
    await keeping.abdicated(heirs.flatMap(({ bitmap }) => bitmap ?? []));
    await this.#endAtOnce(jobs, outcome, [], true);
  }

  /** Folds U into a persistent successor, through its journal. */
  async #keepUncopied(job: JobState, outcome: JobDecision): Promise<void> {
    const event = endEvent(job, outcome);
    const successor = job.bitmap?.memory.successor;
    if (event?.type !== "abdicate" || !event.uncopied || successor === undefined) return;
    const { length, granularity } = successor.bitmap;
    const uncopied = SharedBitmap.create(length, granularity);
    const { view } = job.view.memory;
    foldUncopied(uncopied, view, job.safe ?? new Int32Array(view.copied.length));
    await job.disk.journal?.fold(successor, uncopied);
  }

  /**
   * One transition in which the bitmaps change, then the folds, then the rest. @param kept bitmaps whose record follows the folds
   * @param stopped the views have stopped and left already @returns when the folds are over
   */
  async #endAtOnce(
    jobs: readonly JobState[],
    outcome: JobDecision,
    kept: readonly BitmapState[] = [],
    stopped = false,
  ): Promise<void> {
    const { engine } = this.#coordinator;
    const draft = this.#coordinator.draft(this.#coordinator.nextCommand(), "backup");
    let over: Promise<void> | undefined;
    await engine.transitions.run({
      name: outcome === "success" ? "abdicate" : "reclaim",
      stacks: [...new Set(jobs.map((job) => job.disk.layer.stack))],
      prepare: () => {
        for (const job of jobs) {
          if (!stopped) draft.removeView(job.disk, job.view);
          const event = endEvent(job, outcome);
          // U is in a persistent successor already.
          const folded = event?.type === "abdicate" && job.bitmap?.actor.context.persistent === true;
          if (job.bitmap !== undefined && event !== undefined)
            draft.plan(job.bitmap, {
              command: draft.command,
              reason: endReason(job, outcome),
              ...event,
              ...(folded ? { uncopied: false } : {}),
            });
        }
        return {
          tables: draft.tables(),
          commit: () => {
            if (!stopped) for (const job of jobs) job.view.stop();
          },
          committed: ({ closedMs }) => {
            for (const job of jobs) {
              if (!stopped) job.view.wake();
              job.endMs += closedMs;
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
            if (later === undefined && kept.length === 0) settle();
            else
              over = Promise.resolve(later)
                .then(() => this.#coordinator.keeping.settled(kept))
                .then(settle);
          },
        };
      },
    });
    await over;
  }

  flush(job: JobState): Promise<number> {
    const flush = this.#coordinator.engine.flushNode(job.target.node).catch(() => errnoIo);
    job.flushing = flush;
    return flush;
  }

  /** Bitmap-mode always keeps what reached the target, if a flush covers it: tried once, for a bounded time. */
  async #coverByFlush(job: JobState): Promise<void> {
    if (job.request.bitmap?.mode !== "always" || job.actor.state === "created") return;
    if (job.view.copiedClusters === 0 || job.awaitsTarget) return;
    const snapshot = job.view.copiedSnapshot();
    const { promise, resolve } = withResolvers<number>();
    const timer = setTimeout(() => resolve(-1), lastFlushMs);
    const errno = await Promise.race([this.flush(job), promise]);
    clearTimeout(timer);
    if (errno === 0) job.safe = snapshot;
  }

  /** What is on the target counts once whoever asked to know has written down what it is. */
  async #keepWhatIsSafe(job: JobState, outcome: JobDecision): Promise<void> {
    await this.#coverByFlush(job);
    const { id, safe, view, onKept } = job;
    if (safe === undefined || onKept === undefined || endEvent(job, outcome)?.type !== "abdicate") return;
    const ranges = [...copiedRanges(view.memory.view, safe)];
    if (ranges.length === 0) return;
    const { promise, resolve } = withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), keptMs);
    const written = onKept({ job: id, ranges }).then(
      () => true,
      () => false,
    );
    // Where nobody knows what is there, nothing of it counts.
    if (!(await Promise.race([written, promise]))) job.safe = undefined;
    clearTimeout(timer);
  }

  #foldUncopied(job: JobState): void {
    const { view } = job.view.memory;
    invariant(job.bitmap !== undefined, "only a job with a bitmap keeps what was not copied");
    foldUncopied(job.bitmap.memory.bits.bitmap, view, job.safe ?? new Int32Array(view.copied.length));
  }

  /**
   * A resumable job whose disk goes: its threads end, what they did is made durable, and it stays in the record. Its view stands until
   * nobody can write the disk any more (`leaveTable`). @returns false where it cannot be left so
   */
  async leave(job: JobState): Promise<boolean> {
    const { keeping } = this.#coordinator;
    const { resumable, bitmap } = job;
    if (resumable === undefined || bitmap === undefined) return false;
    job.left = true;
    clearTimeout(job.resumeTimer);
    clearInterval(job.flushTimer);
    job.view.fail();
    // A target that hangs keeps nobody: what no flush covers is copied again if the system is started anew.
    const errno = job.awaitsTarget
      ? 0
      : await Promise.race([this.#settleTarget(job, resumable), delay(lastFlushMs).then(() => 0)]);
    if (errno !== 0 || job.disk.journal?.failed !== undefined) {
      job.left = false;
      return false;
    }
    if (!job.awaitsTarget) resumable.waitingSince = this.#coordinator.now();
    await keeping.alone(new Set([job.disk]), () => keeping.settled([bitmap]));
    const result: JobResult = {
      id: job.id,
      status: "left",
      error: null,
      offset: jobOffset(job),
      length: jobLength(job),
      freezeMs: job.freezeMs,
      endMs: 0,
    };
    this.#coordinator.tell("JOB_LEFT", {
      job: job.id,
      disk: job.disk.name,
      offset: result.offset,
      length: result.length,
    });
    for (const disk of disksOf(job)) this.#coordinator.unuse(disk, { kind: "job", id: job.id });
    job.finish(result);
    return true;
  }

  /** @returns errno */
  async #settleTarget(job: JobState, { spill }: Resumable): Promise<number> {
    const { engine } = this.#coordinator;
    await job.view.moversEnded();
    await job.flushing;
    return (await flushTarget(engine, job)) || (await engine.syncFile(spill.fd).catch(() => errnoIo));
  }

  /** The view of a job that is left has gone: what it used goes when its threads have let go. */
  letGoOfLeft(job: JobState): void {
    const { world, engine } = this.#coordinator;
    job.view.wake();
    world.jobs.delete(job.id);
    const { journal } = job.disk;
    const { identity } = job.target.node;
    if (!job.awaitsTarget) {
      world.lettingGo.set(identity, job.id);
      if (job.target.disk === undefined) interruptNbd(job.target.node);
    }
    const letGo = Promise.all([job.view.release(), job.flushing]).then(async () => {
      if (job.resumable?.records !== undefined) journal?.jobs.drop(job.resumable.records);
      if (job.target.disk === undefined && !job.awaitsTarget) await engine.closeNode(job.target.node).catch(() => {});
      world.lettingGo.delete(identity);
    });
    this.#releasing.set(letGo, usesOf(job));
    void letGo.finally(() => this.#releasing.delete(letGo));
  }

  /** A resumable job's spill and layers: its threads have let go, and no record names them any more. */
  async #letGoOfRecords({ resumable, disk }: JobState): Promise<void> {
    if (resumable === undefined) return;
    await this.#coordinator.engine.removeSpill({ path: resumable.spill.path, fd: undefined }).catch(() => {});
    if (resumable.records !== undefined) disk.journal?.jobs.drop(resumable.records);
  }

  #settle(job: JobState, outcome: JobDecision): void {
    const { world, engine } = this.#coordinator;
    const { identity } = job.target.node;
    job.ended = { offset: jobOffset(job), length: jobLength(job) };
    const kept = outcome === "success" ? undefined : keptOf(job); // before the view's memory is somebody else's
    world.lettingGo.set(identity, job.id);
    // What is on its way to a server is of no use any more, and may never be answered.
    if (outcome !== "success" && job.target.disk === undefined && !job.awaitsTarget) interruptNbd(job.target.node);
    clearTimeout(job.resumeTimer);
    clearInterval(job.flushTimer);
    const released = this.#coordinator.snapshots.allGone(job.view).then(() => job.view.release());
    const letGo = Promise.all([released, job.flushing]).then(async () => {
      await this.#letGoOfRecords(job);
      if (job.target.disk === undefined && !job.awaitsTarget) await engine.closeNode(job.target.node).catch(() => {});
      world.lettingGo.delete(identity);
      this.#letGoOf.delete(identity);
    });
    this.#letGoOf.set(identity, letGo);
    this.#releasing.set(letGo, usesOf(job));
    void letGo.finally(() => this.#releasing.delete(letGo));
    const before = job.actor.context;
    const status = outcome === "success" ? "completed" : before.cancelled ? "cancelled" : "failed";
    this.#onSettled(job, status);
    const { error } = job.actor.context;
    const result: JobResult = {
      id: job.id,
      status,
      error,
      offset: jobOffset(job),
      length: jobLength(job),
      freezeMs: job.freezeMs,
      endMs: job.endMs,
      ...(kept === undefined ? {} : { kept }),
    };
    // Whoever waits for the end finds the target free, unless a thread hangs there.
    void within(lettingGoMs, letGo, { keepsAlive: false }).then(() => job.finish(result));
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}

/** Its persistent bitmap becomes its successor. */
function isHeir(job: JobState, outcome: JobDecision): boolean {
  return job.bitmap?.actor.context.persistent === true && endEvent(job, outcome)?.type === "abdicate";
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

/** What a job with bitmap-mode always has left on its target for good: a flush has covered it, and the bitmap gave it up. */
function keptOf(job: JobState): JobResult["kept"] {
  if (job.request.bitmap?.mode !== "always") return undefined;
  return job.safe === undefined ? [] : [...copiedRanges(job.view.memory.view, job.safe)];
}
