/** `heirloom backup`: a job of who is driven, followed to its end. */
import { existsSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type BlockdevBackup, QmpError } from "@heirloom/qmp";
import { CommandError } from "../command-error.ts";
import { giveName } from "../new-file.ts";
import { formatBytes } from "../sizes.ts";
import { quoted } from "../shell-words.ts";
import type { StopSignals } from "../stop-signals.ts";
import type { ProgressDisplay } from "../terminal/progress-display.ts";
import type { BackupPlan } from "./backup-plan.ts";
import { bitmapsOf } from "./bitmaps.ts";
import { type ControlClient, lost } from "./control-client.ts";
import { type JobEnd, JobEvents } from "./job-events.ts";
import { jobsOf } from "./jobs.ts";

/** Between two looks how far it is. */
const LOOK_MS = 200;

export interface BackupResult {
  readonly job: string;
  readonly end: JobEnd;
  readonly seconds: number;
  /** What the bitmap says now, bytes; undefined without one, or where it is gone. */
  readonly dirty: number | undefined;
  /** The signal that cancelled it. */
  readonly signal: string | undefined;
}

/** @throws CommandError where it does not begin, or its end is not known: then nothing is removed */
export function runJob(
  control: ControlClient,
  plan: BackupPlan,
  job: string,
  signals: StopSignals,
  progress: ProgressDisplay,
): Promise<BackupResult> {
  const start = async (): Promise<string> => {
    try {
      await begin(control, plan, job);
    } catch (error) {
      // Refused, it has made the file all the same: QEMU's daemon leaves it, and so does ours.
      if (error instanceof CommandError && error.cause instanceof QmpError) removeUnfinished(plan);
      throw error;
    }
    return `${job} has begun. Ctrl-C cancels it.`;
  };
  return follow(control, plan, job, start, signals, progress);
}

/**
 * From its start to its end.
 * @param start makes it go; answers what is told of that
 * @throws CommandError where that is refused, or its end is not known
 */
export async function follow(
  control: ControlClient,
  plan: BackupPlan,
  job: string,
  start: () => Promise<string>,
  signals: StopSignals,
  progress: ProgressDisplay,
): Promise<BackupResult> {
  const events = new JobEvents(control.qmp, job);
  const begun = performance.now();
  progress.say(await start());
  const over = new AbortController();
  const looking = look(control, job, progress, over.signal);
  const signal = await followed(control, plan, job, events, signals, progress);
  const seconds = (performance.now() - begun) / 1000;
  over.abort();
  await looking;
  const { end } = events;
  if (end === undefined) throw unknownEnd(control, plan, job);
  return { job, end, seconds, dirty: await dirtyBytes(control, plan), signal };
}

async function begin(control: ControlClient, plan: BackupPlan, job: string): Promise<void> {
  const { node, target, sync, bitmap, bitmapMode, speed, resumable, syncSpill } = plan;
  const common: Omit<BlockdevBackup, "target"> = {
    "job-id": job,
    device: node,
    sync,
    speed,
    ...(bitmap === undefined ? {} : { bitmap }),
    ...(bitmapMode === undefined ? {} : { "bitmap-mode": bitmapMode }),
    ...(resumable ? { resumable } : {}),
    ...(syncSpill ? { "sync-spill": true } : {}),
  };
  const about = { node, ...(bitmap === undefined ? {} : { bitmap }) };
  if (target.kind === "node") await control.run("blockdev-backup", { ...common, target: target.name }, about);
  else {
    // One command opens the file, and closes it with the job's end: also if we are not there any more by then.
    const isNew = target.kind === "new";
    const file = isNew
      ? ({ target: target.unfinished, mode: "absolute-paths" } as const)
      : ({ target: target.path, mode: "existing" } as const);
    await control.run("drive-backup", { ...common, ...file, format: "raw" }, about);
  }
}

/** To the end. The first signal cancels; a second one leaves it. @returns the first signal */
async function followed(
  control: ControlClient,
  plan: BackupPlan,
  job: string,
  events: JobEvents,
  signals: StopSignals,
  progress: ProgressDisplay,
): Promise<string | undefined> {
  const ended = events.ended();
  const first = signals.next();
  if (typeof (await Promise.race([ended, first])) === "boolean") return undefined;
  const signal = await first;
  progress.say(`Cancelling ${job} (${signal}; again: leave it to end by itself)`);
  const cancelled = control.qmp.execute("job-cancel", { id: job }).then(
    () => true,
    () => false, // it has ended in the meantime
  );
  const second = await Promise.race([ended, signals.next()]);
  if (typeof second === "boolean") return signal;
  const accepted = await Promise.race([cancelled, Promise.resolve(false)]);
  if (accepted) removeUnfinished(plan);
  throw new CommandError(`left while ${job} was being cancelled`, ["'heirloom jobs' says when it has ended."]);
}

async function look(control: ControlClient, job: string, progress: ProgressDisplay, over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    const row = (await jobsOf(control.qmp).catch(() => [])).find(({ id }) => id === job);
    if (row !== undefined && !over.aborted) {
      progress.show({ offset: row.offset, length: row.length, bytesCopied: row.offset });
    }
    await sleep(LOOK_MS, undefined, { signal: over }).catch(() => undefined);
  }
}

async function dirtyBytes(control: ControlClient, { node, bitmap }: BackupPlan): Promise<number | undefined> {
  if (bitmap === undefined) return undefined;
  const bitmaps = await bitmapsOf(control.qmp).catch(() => []);
  return bitmaps.find((one) => one.node === node && one.name === bitmap)?.count;
}

/** The copy is whole: it gets its name. @throws CommandError */
export function keep({ target }: BackupPlan): void {
  if (target.kind !== "new") return;
  try {
    giveName(target.unfinished, target.path);
  } catch (error) {
    // Two may follow one job, who began it and who resumed it: the other one was quicker.
    if (existsSync(target.unfinished) || !existsSync(target.path)) throw error;
  }
}

export function removeUnfinished({ target }: BackupPlan): void {
  if (target.kind === "new") rmSync(target.unfinished, { force: true });
}

/** What is told of a backup that came to nothing, and what is left of it. */
export function failure(plan: BackupPlan, { job, end, dirty, signal }: BackupResult): CommandError {
  const { bitmap, target, bitmapMode } = plan;
  const hints: string[] = [];
  if (bitmap !== undefined) {
    const says = dirty === undefined ? "" : `: it says ${formatBytes(dirty)}`;
    hints.push(
      bitmapMode === "always"
        ? `The bitmap ${bitmap} says what was not copied, and what was written since${says}.`
        : `The bitmap ${bitmap} was reclaimed, nothing is forgotten${says}.`,
    );
  }
  if (target.kind === "new") hints.push(`'${target.path}' was not made.`);
  else hints.push("The target is partly written. The next one with the same bitmap, or a full one, makes it whole.");
  if (end.how === "failed") return new CommandError(`${job} failed: ${end.error ?? "no reason was given"}`, hints);
  return new CommandError(`${job} was cancelled by ${signal ?? "somebody else"}`, hints);
}

function unknownEnd({ path }: ControlClient, { target, resumable }: BackupPlan, job: string): CommandError {
  const { message } = lost(path, new Error("no end was told"));
  if (resumable) {
    return new CommandError(`${job}: ${message}`, [
      "It is resumable: its target was left as it is. Once the disk is served again, with the journal that it had:",
      `  heirloom resume ${quoted(job)}`,
    ]);
  }
  const left =
    target.kind === "new" ? [`What there is of the copy is '${target.unfinished}'; it may not be whole.`] : [];
  return new CommandError(`${job}: ${message}`, [
    "A job ends with who runs it. Where its bitmap is kept, the next backup with it catches up; else begin with a full one.",
    ...left,
  ]);
}
