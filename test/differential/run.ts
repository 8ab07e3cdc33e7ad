/** A sequence against both daemons at once; where they differ, the shortest sequence that still shows it. */
import { isDeepStrictEqual } from "node:util";
import { Daemon } from "./daemon.ts";
import { digestOf, type Observation, observe, perform } from "./observe.ts";
import { Scene } from "./scene.ts";
import type { Step } from "./steps.ts";

export interface Difference {
  readonly at: number;
  readonly steps: readonly Step[];
  readonly qemu: unknown;
  readonly ours: unknown;
}

export class Pair {
  #qemu: Daemon | undefined;
  #ours: Daemon | undefined;

  /** The first step after which they differ. */
  async run(steps: readonly Step[], seed: number): Promise<Difference | undefined> {
    const qemu = await Scene.open((this.#qemu ??= await Daemon.start("qemu")), seed);
    const ours = await Scene.open((this.#ours ??= await Daemon.start("ours")), seed);
    try {
      const difference = await compare(steps, qemu, ours);
      if (isHang(difference)) {
        await this.stop();
        // QEMU 7.2 hangs in some transactions that it takes back: there is nothing to compare with.
        return difference?.ours === wentOn ? undefined : difference;
      }
      await Promise.all([qemu.close(), ours.close()]);
      this.#qemu.takeEvents();
      this.#ours.takeEvents();
      return difference;
    } catch (error) {
      // Whoever died, or does not let go of something, is replaced.
      await this.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await Promise.all([this.#qemu?.stop(), this.#ours?.stop()]);
    this.#qemu = undefined;
    this.#ours = undefined;
  }
}

function isHang(difference: Difference | undefined): boolean {
  return difference !== undefined && [difference?.qemu, difference?.ours].includes(wentOn);
}

async function compare(steps: readonly Step[], qemu: Scene, ours: Scene): Promise<Difference | undefined> {
  const endless = new Set<string>();
  const faulty = new Set<string>();
  for (const [at, step] of steps.entries()) {
    // There a guest's write fails in QEMU, and not here: see README.
    if (step.kind !== "command" && faulty.size > 0) continue;
    const replies = await Promise.all([within(perform(qemu, step)), within(perform(ours, step))]);
    if (replies.some(isSuccess)) noteEndless(step, endless);
    const [theirs, mine] = await Promise.all([
      within(observe(qemu, replies[0], endless)),
      within(observe(ours, replies[1], endless)),
    ]);
    if (replies.includes(hung) || theirs === hung || mine === hung) {
      const toldOf = (reply: unknown, seen: unknown): string =>
        reply !== hung && seen !== hung ? wentOn : `hung: answered ${reply !== hung}`;
      return { at, steps, qemu: toldOf(replies[0], theirs), ours: toldOf(replies[1], mine) };
    }
    if (leavesAlwaysDirty(step, replies[0])) return undefined;
    noteFaulty(replies.some(isSuccess) ? backupsOf(step) : [], theirs, faulty);
    if (!isDeepStrictEqual(theirs, mine)) return { at, steps, ...different(theirs, mine) };
    for (const target of completedTargets(steps.slice(0, at + 1), theirs)) {
      const [one, other] = [digestOf(qemu, target), digestOf(ours, target)];
      if (one !== other) return { at, steps, qemu: `${target} ${one}`, ours: `${target} ${other}` };
    }
  }
  return undefined;
}

const hung: unique symbol = Symbol("hung");
const hungMs = 15_000;
const wentOn = "went on";

async function within<Value>(work: Promise<Value>): Promise<Value | typeof hung> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof hung>((resolve) => (timer = setTimeout(() => resolve(hung), hungMs)));
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Only what differs, for people. */
function different(qemu: Observation, ours: Observation): { qemu: unknown; ours: unknown } {
  const names = (Object.keys(qemu) as (keyof Observation)[]).filter(
    (name) => !isDeepStrictEqual(qemu[name], ours[name]),
  );
  const pick = (of: Observation): unknown => Object.fromEntries(names.map((name) => [name, of[name]]));
  return { qemu: pick(qemu), ours: pick(ours) };
}

function backupsOf(step: Step): ReadonlyArray<Readonly<Record<string, unknown>>> {
  if (step.kind !== "command") return [];
  if (step.name === "blockdev-backup") return [step.args];
  if (step.name !== "transaction") return [];
  const actions = step.args.actions as ReadonlyArray<{ type: string; data: Readonly<Record<string, unknown>> }>;
  return actions.filter(({ type }) => type === "blockdev-backup").map(({ data }) => data);
}

function isSuccess(reply: unknown): boolean {
  return typeof reply === "object" && reply !== null && "return" in reply;
}

/** Jobs of `sync: none` run until they are cancelled. The id may have been another job's before. */
function noteEndless(step: Step, endless: Set<string>): void {
  for (const { sync, "job-id": id } of backupsOf(step)) {
    if (sync === "none") endless.add(String(id));
    else endless.delete(String(id));
  }
}

/** A job that was taken back before it started has its bitmap all dirty in QEMU, in mode always; here it is as it was. */
function leavesAlwaysDirty(step: Step, reply: unknown): boolean {
  return !isSuccess(reply) && backupsOf(step).some((backup) => backup["bitmap-mode"] === "always");
}

/** Jobs with a target that fails, for as long as they have it. */
function noteFaulty(started: ReturnType<typeof backupsOf>, { jobs }: Observation, faulty: Set<string>): void {
  for (const { target, "job-id": id } of started) if (target === "f") faulty.add(String(id));
  const [all] = jobs as readonly [ReadonlyArray<{ id: string; status: string }>];
  const alive = new Set(all.filter(({ status }) => status !== "concluded").map(({ id }) => id));
  for (const id of faulty) if (!alive.has(id)) faulty.delete(id);
}

/** Where a job that has just completed wrote, if it copied from a state that both share. */
function completedTargets(steps: readonly Step[], { events }: Observation): string[] {
  return Object.entries(events)
    .filter(([, story]) => story.some((line) => /^BLOCK_JOB_COMPLETED \d/.test(line)))
    .flatMap(([id]) => {
      const started = steps
        .flatMap(backupsOf)
        .reverse()
        .find((backup) => backup["job-id"] === id);
      return started === undefined ? [] : [String(started.target)];
    })
    .filter((target) => target === "t" || target === "u");
}

/** Leaves out ever smaller parts for as long as a difference stays. */
export async function shrink(pair: Pair, found: Difference, seed: number): Promise<Difference> {
  let best: Difference = { ...found, steps: found.steps.slice(0, found.at + 1) };
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

/** As a transcript. */
export function tell({ steps, qemu, ours }: Difference, seed: number): string {
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
