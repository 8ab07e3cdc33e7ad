/** A running or ended backup job, for its user. */
import type { NodeHandle } from "@heirloom/block";
import type { EngineView } from "@heirloom/engine";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { HeirloomError, refusal, RefusalError } from "./errors.ts";
import { type JobState, jobLength, jobOffset, waitOf } from "./job-state.ts";
import { jobStatus } from "./machines/job-refusal.ts";
import type { HistoryEntry } from "./machines/machine-actor.ts";
import type { JobInfo, JobResult } from "./options.ts";
import { type ViewFigures, viewFigures } from "./view-figures.ts";
import { within } from "./waiting.ts";

export class Job {
  readonly id: string;
  /** How it ended; never rejects. `concluded` with `autoDismiss: false` counts as ended. */
  readonly done: Promise<JobResult>;
  readonly #coordinator: Coordinator;
  readonly #state: JobState;

  /** @internal */
  constructor(coordinator: Coordinator, state: JobState) {
    this.id = state.id;
    this.done = state.done;
    this.#coordinator = coordinator;
    this.#state = state;
  }

  /** Where it writes; the node for what its driver offers beside the verbs (`releaseHang`, `setThrottle`). */
  get target(): { readonly name: string; readonly node: NodeHandle } {
    const { name, node } = this.#state.target;
    return { name, node };
  }

  get info(): JobInfo {
    const { actor, request } = this.#state;
    const { context } = actor;
    return {
      id: this.id,
      type: "backup",
      status: jobStatus(actor.snapshot),
      offset: jobOffset(this.#state),
      length: jobLength(this.#state),
      speed: context.speed,
      paused: actor.state === "paused",
      ioStatus: context.ioStatus,
      autoFinalize: request.autoFinalize,
      autoDismiss: request.autoDismiss,
      error: context.error,
      waits: waitOf(this.#state),
    };
  }

  /** What its point in time holds; what a job copies by itself counts as left or done, and not as kept. */
  get figures(): ViewFigures | undefined {
    const { view, request, decided, disk } = this.#state;
    if (decided !== undefined) return undefined;
    if (!request.copies) return viewFigures(view);
    const unit = request.clusterSize;
    const left = jobLength(this.#state) - jobOffset(this.#state);
    return { unit, readable: Math.ceil(disk.layer.table.length / unit) * unit, kept: 0, left };
  }

  /** States that it went through, and why. */
  get history(): readonly HistoryEntry[] {
    return this.#state.actor.history;
  }

  /** @internal What a snapshot of it reads. @throws HeirloomError, RefusalError */
  standing(operation: string): Promise<{ readonly engineView: EngineView; readonly disk: DiskState }> {
    this.refuseEnded(operation);
    const { view, disk } = this.#state;
    if (view.memory.readers) return Promise.resolve({ engineView: view, disk });
    const desc = `job '${this.id}' cannot be read: that takes \`readable\`, and sync none`;
    throw new RefusalError(operation, refusal("ERR_INVALID_ARGUMENT", desc, { job: this.id }));
  }
  /** @internal */
  refuseEnded(operation: string): void {
    if (this.#state.decided !== undefined)
      throw new HeirloomError("ERR_VIEW_ENDED", operation, `job '${this.id}' has ended`);
  }

  /**
   * Drops everything; the bitmap is reclaimed.
   * @param options.force false: refused while a user has it paused @throws RefusalError once the success is decided
   */
  cancel(options: { readonly force?: boolean } = {}): void {
    this.#coordinator.jobs.verb(this.id, "job cancel", { type: "cancel", force: options.force ?? true });
  }
  /** For tools that try: a backup is never ready to be completed. @throws RefusalError always */
  complete(): void {
    this.#coordinator.jobs.verb(this.id, "job complete", { type: "complete" });
  }
  /** The copier stops; what guests overwrite is still carried over. @throws RefusalError */
  pause(): void {
    this.#coordinator.jobs.verb(this.id, "job pause", { type: "pause", user: true });
  }
  /** @throws RefusalError */
  resume(): void {
    this.#coordinator.jobs.verb(this.id, "job resume", { type: "resume", user: true });
  }
  /** @param bytesPerSecond 0 is unlimited @throws RefusalError */
  setSpeed(bytesPerSecond: number): void {
    this.#coordinator.jobs.verb(this.id, "job set-speed", { type: "setSpeed", speed: bytesPerSecond });
  }
  /** With `autoFinalize: false`: the success is decided now. @throws RefusalError unless the job is pending */
  finalize(): void {
    this.#coordinator.jobs.verb(this.id, "job finalize", { type: "finalize" });
  }
  /** With `autoDismiss: false`: forgets a concluded job. @throws RefusalError */
  dismiss(): void {
    this.#coordinator.jobs.verb(this.id, "job dismiss", { type: "dismiss" });
  }

  /**
   * Progress until the job has ended, at most every `everyMs` milliseconds; the last value is the end's.
   * @example for await (const { offset, length } of job.progress()) bar.update(offset / length);
   */
  async *progress(everyMs = 100): AsyncGenerator<JobInfo, void, void> {
    let ended = false;
    void this.done.then(() => (ended = true));
    while (!ended) {
      yield this.info;
      await within(everyMs, this.done);
    }
    yield this.info;
  }
}
