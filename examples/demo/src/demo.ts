/** The whole demo: an image, guests that write it all the while, backups, and the proof of each point in time. */
import { availableParallelism } from "node:os";
import { type Artefact, createRuntime, type HistoryEntry } from "@heirloom/runtime";
import { type Backup, bitmap, plans, runBackup } from "./backups.ts";
import { findTools, type Tools } from "./ext4.ts";
import { bytes, count } from "./format.ts";
import { duringBackup, idle, uncounted } from "./guest-memory.ts";
import { Guests, type PhaseFigures } from "./guests.ts";
import { copyImage, type Image, makeExt4Image, makeRawImage } from "./image.ts";
import type { DemoOptions } from "./options.ts";
import type { Progress } from "./progress.ts";
import { Shadows } from "./shadow.ts";
import type { Span } from "./timeline.ts";
import { holds, type Verdict, verify } from "./verify.ts";
import type { Workplace } from "./workplace.ts";

/** What guests did of some kind, without and with a backup. */
export interface GuestRow {
  readonly name: string;
  readonly idle: PhaseFigures;
  readonly duringBackup: PhaseFigures;
}

export interface DemoResult {
  readonly seed: number;
  readonly image: Image;
  readonly span: Span;
  readonly bitmapHistory: readonly HistoryEntry[];
  readonly backups: readonly Backup[];
  readonly verdicts: readonly Verdict[];
  /** Milliseconds that a shadow copy took, on average. */
  readonly shadowMs: number;
  readonly guests: {
    readonly count: number;
    readonly rows: readonly GuestRow[];
    /** Of all kinds. */
    readonly requests: number;
  };
  /** What is not as it must be; empty if everything held. */
  readonly problems: readonly string[];
  readonly kept: string | undefined;
}

/** Seconds without a backup: to measure guests alone, and to let them change something. */
const firstIdleSeconds = 1.5;
const idleSeconds = 0.8;

export async function runDemo(options: DemoOptions, workplace: Workplace, progress: Progress): Promise<DemoResult> {
  const tools = options.image === undefined ? findTools() : undefined;
  const image = await makeImage(options, workplace, tools, progress);
  const guests = new Guests(Math.max(2, Math.min(4, availableParallelism() + 1)));
  let shadowMs = 0;
  const shadows = new Shadows(workplace, (begin, end) => {
    shadowMs += (end - begin) / plans.length;
    guests.memory.observed(begin, end);
  });
  shadows.follow(image.path);
  await using runtime = createRuntime({
    observeFreeze: shadows.atFreeze,
    spill: { allowTmpfs: workplace.isTmpfs },
    now: preciseNow,
  });
  const disk = await runtime.attach({ driver: "file", filename: image.path }, { name: "vm" });
  const span = { from: preciseNow(), to: 0 };
  await disk.bitmaps.add(bitmap);
  const backups: Backup[] = [];
  const verdicts: Verdict[] = [];
  try {
    guests.start(runtime, disk, image.areas, options.seed);
    await guests.writing();
    await measureIdle(guests, firstIdleSeconds, progress);
    const chain: { name: string; artefact: Artefact }[] = [];
    for (const plan of plans) {
      progress.begin(plan.title);
      guests.measure(duringBackup);
      const backup = await runBackup({ runtime, disk, progress, pathOf: workplace.path }, plan, chain);
      guests.measure(uncounted);
      guests.check();
      backups.push(backup);
      progress.end(outcomeOf(backup), backup.result.status === plan.end);
      if (backup.artefact !== undefined) {
        chain.push({ name: plan.name, artefact: backup.artefact });
        progress.begin(`rebuild ${plan.name}`);
        const names = { name: plan.name, shadow: shadows.of(plan.name), image: workplace.path(`${plan.name}.img`) };
        const verdict = await verify(
          { ...names, chain, tools: image.checked ? tools : undefined, keep: options.keep },
          progress,
        );
        verdicts.push(verdict);
        progress.end(holds(verdict) ? "equal to its shadow copy" : "NOT what the disk held", holds(verdict));
      }
      if (!options.keep) shadows.forget(plan.name);
      if (plan !== plans.at(-1)) await measureIdle(guests, idleSeconds);
    }
  } finally {
    await guests.stop();
  }
  guests.check();
  span.to = preciseNow();
  return {
    seed: options.seed,
    image,
    span,
    bitmapHistory: disk.bitmaps.history(bitmap),
    backups,
    verdicts,
    shadowMs,
    guests: { count: guests.count, rows: guestRows(guests), requests: guests.memory.figures().requests },
    problems: problemsOf(backups, verdicts),
    kept: options.keep ? workplace.directory : undefined,
  };
}

function guestRows(guests: Guests): GuestRow[] {
  const row = (name: string, kinds: readonly number[]): GuestRow => ({
    name,
    idle: guests.figures(idle, kinds),
    duringBackup: guests.figures(duringBackup, kinds),
  });
  return [row("writes", [0]), row("discards and writes of zeroes", [1, 2])];
}

/** Milliseconds since the epoch, with parts of them: what happens in one millisecond keeps its order and its length. */
function preciseNow(): number {
  return performance.timeOrigin + performance.now();
}

async function makeImage(
  options: DemoOptions,
  workplace: Workplace,
  tools: Tools | undefined,
  progress: Progress,
): Promise<Image> {
  progress.begin("disk image");
  const image =
    options.image !== undefined
      ? copyImage(options.image, workplace)
      : tools === undefined
        ? makeRawImage(workplace, options.seed, "e2fsprogs (mkfs.ext4, debugfs, e2fsck) was not found")
        : await makeExt4Image(tools, workplace, options.seed);
  progress.end(`${bytes(image.length)}, ${image.what}`);
  return image;
}

async function measureIdle(guests: Guests, seconds: number, progress?: Progress): Promise<void> {
  progress?.begin("guests alone");
  guests.measure(idle);
  for (let at = 0; at < 20; at++) {
    await new Promise((resolve) => setTimeout(resolve, (seconds * 1000) / 20));
    progress?.show(at / 20, `${guests.count} writers`);
    guests.check();
  }
  guests.measure(uncounted);
  progress?.end(`${guests.count} writers, ${count(guests.figures(idle).iops)} requests/s`);
}

function outcomeOf({ result, set, copied }: Backup): string {
  if (result.status === "completed") return `${bytes(copied)} copied`;
  const error = result.error === null || result.status === "cancelled" ? "" : `: ${result.error}`;
  return `${bytes(copied)} of ${bytes(set)}${error}`;
}

function problemsOf(backups: readonly Backup[], verdicts: readonly Verdict[]): string[] {
  const problems: string[] = [];
  for (const { plan, result } of backups) {
    if (result.status === plan.end) continue;
    problems.push(
      `${plan.name}: expected it to be ${plan.end}, but it ${result.status}${result.error === null ? "" : ` (${result.error})`}`,
    );
  }
  for (const { name, difference, fileSystem } of verdicts) {
    if (difference !== undefined) {
      const what =
        difference.bytes === 1
          ? "1 byte of the rebuilt image differs"
          : `${count(difference.bytes)} bytes of the rebuilt image differ`;
      problems.push(`${name}: ${what} from the disk at its freeze, the first at offset ${difference.offset}`);
    }
    if (fileSystem !== undefined) problems.push(`${name}: e2fsck found errors in the rebuilt image:\n${fileSystem}`);
  }
  return problems;
}
