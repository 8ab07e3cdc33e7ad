/**
 * What is compared after each step, made equal where the two are meant to differ. Each of these has its reason in README.md.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { QmpError, type QmpClientEvent } from "@heirloom/qmp";
import type { Daemon } from "./daemon.ts";
import type { Scene } from "./scene.ts";
import type { Step } from "./steps.ts";

export interface Observation {
  readonly reply: unknown;
  /** By job: what was told of it, in order. */
  readonly events: Readonly<Record<string, readonly string[]>>;
  readonly jobs: unknown;
  readonly bitmaps: unknown;
}

export async function perform(scene: Scene, step: Step): Promise<unknown> {
  if (step.kind === "write") return attempt(() => scene.write(step.offset, step.length, step.value));
  if (step.kind === "zeroes") return attempt(() => scene.writeZeroes(step.offset, step.length));
  try {
    return { return: await scene.daemon.client.executeAny(step.name, step.args as never) };
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
    return { class: error.class, desc: error.desc };
  }
}

async function attempt(work: () => Promise<void>): Promise<string> {
  try {
    await work();
    return "done";
  } catch {
    return "failed";
  }
}

export async function observe(scene: Scene, reply: unknown, endless: ReadonlySet<string>): Promise<Observation> {
  const { daemon } = scene;
  await daemon.settle(endless);
  const jobs = await daemon.client.execute("query-jobs");
  const blockJobs = await daemon.client.execute("query-block-jobs");
  const bitmaps = await bitmapsOf(daemon);
  return {
    reply,
    events: byJob(daemon.takeEvents()),
    jobs: [
      jobs.map((job) => withoutProgress(job, job.status)),
      blockJobs.map((job) => withoutProgress(job, job.status)),
    ],
    bitmaps,
  };
}

/** How far a job is, is only compared where it has ended well: see README. */
function withoutProgress(job: object, status: string): object {
  const { busy: _, ...rest } = job as Record<string, unknown>;
  if (status === "pending" || (status === "concluded" && rest.error === undefined)) return rest;
  for (const name of ["offset", "len", "current-progress", "total-progress"]) delete rest[name];
  return rest;
}

async function bitmapsOf(daemon: Daemon): Promise<unknown> {
  const nodes = await daemon.client.execute("query-named-block-nodes");
  const seen: unknown[] = [];
  for (const name of ["d", "e", "t", "u"]) {
    const node = nodes.find((one) => one["node-name"] === name);
    for (const bitmap of node?.["dirty-bitmaps"] ?? []) {
      // A job's own set of clusters is a bitmap of the node in QEMU.
      if (bitmap.name === undefined && !bitmap.recording) continue;
      const digest =
        bitmap.name === undefined
          ? ""
          : (await daemon.client.execute("x-debug-block-dirty-bitmap-sha256", { node: name, name: bitmap.name }))
              .sha256;
      seen.push({ node: name, ...bitmap, digest });
    }
  }
  return seen;
}

function byJob(events: readonly QmpClientEvent[]): Record<string, readonly string[]> {
  const stories: Record<string, string[]> = {};
  for (const { name, data } of events) {
    const about = (data ?? {}) as Readonly<Record<string, string | number | undefined>>;
    const id = String(about.id ?? about.device ?? "");
    (stories[id] ??= []).push(line(name, about));
  }
  const kept = Object.entries(stories).map(([id, story]) => [id, withoutDrains(story)] as const);
  return Object.fromEntries(kept.filter(([, story]) => story.length > 0));
}

function line(name: string, data: Readonly<Record<string, string | number | undefined>>): string {
  if (name === "JOB_STATUS_CHANGE") return String(data.status);
  if (name === "BLOCK_JOB_COMPLETED" && data.error === undefined)
    return `${name} ${String(data.len)} ${String(data.offset)} ${String(data.speed)}`;
  const { error, operation, action, speed } = data;
  return [name, error, operation, action, speed].filter((part) => part !== undefined).join(" ");
}

/** Draining pauses a job and lets it go on. */
function withoutDrains(story: readonly string[]): string[] {
  const kept: string[] = [];
  for (const entry of story) {
    if (entry === "running" && kept.at(-1) === "paused") kept.pop();
    else if (entry === "running" && kept.at(-1) === "running") continue;
    // Errors of parallel requests are each told; how many there are is a matter of luck.
    else if (entry.startsWith("BLOCK_JOB_ERROR") && kept.at(-1) === entry) continue;
    else kept.push(entry);
  }
  return kept;
}

/** Of a target whose job has completed. */
export function digestOf(scene: Scene, node: string): string {
  return createHash("sha256")
    .update(readFileSync(scene.path(node)))
    .digest("hex");
}
