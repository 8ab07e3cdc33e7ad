/** What to do where a command was refused: who is in the way, or what there is instead. */
import type { QmpClient, QmpError } from "@heirloom/qmp";
import { quoted } from "../shell-words.ts";
import { printable } from "../terminal/printable.ts";
import { bitmapsOf } from "./bitmaps.ts";
import { jobsOf } from "./jobs.ts";

/** What a command was about. */
export interface Subject {
  readonly node?: string;
  readonly bitmap?: string;
  readonly job?: string;
}

/** Lines; none where there is nothing to add. Never fails: it speaks of another failure. */
export async function nextSteps(qmp: QmpClient, refused: QmpError, about: Subject): Promise<readonly string[]> {
  try {
    return await stepsFor(qmp, refused.desc, about);
  } catch {
    return [];
  }
}

async function stepsFor(qmp: QmpClient, text: string, about: Subject): Promise<readonly string[]> {
  if (/^Cannot find device=|^Node '.*' not found$/s.test(text)) return nextStepsForNode(qmp);
  if (/^Dirty bitmap '.*' not found$|^Bitmap '.*' could not be found$/s.test(text)) return bitmapsInstead(qmp, about);
  if (text.startsWith("Bitmap already exists")) return bitmapsInstead(qmp, about);
  if (text.endsWith("is currently in use by another operation and cannot be used")) return whoHas(qmp, about);
  if (text.endsWith("is inconsistent and cannot be used")) {
    const { node = "NODE", bitmap = "NAME" } = about;
    return [
      "What it said was lost. Remove it, add it anew, and begin with a full backup:",
      `  heirloom bitmap remove ${quoted(node)} ${quoted(bitmap)}; heirloom bitmap add ${quoted(node)} ${quoted(bitmap)}`,
    ];
  }
  if (/^Job not found$|^Block job '.*' not found$/s.test(text)) return jobsInstead(qmp);
  if (/^Job '.*' (waits for its target|goes on with its target) /s.test(text)) return targetInstead(about);
  if (text.startsWith("The backup cannot be resumable: it needs a persistent bitmap")) {
    const { node = "NODE" } = about;
    return [
      `Add one: heirloom bitmap add ${quoted(node)} NAME --persistent. Who serves the disk keeps it with --journal beside.`,
    ];
  }
  if (text.endsWith("already in use"))
    return ["Choose another name: --job NAME. 'heirloom jobs' lists those that are taken."];
  return [];
}

/** Where there is no node of that name. */
export async function nextStepsForNode(qmp: QmpClient): Promise<readonly string[]> {
  const names = (await qmp.execute("query-named-block-nodes")).map((node) => node["node-name"] ?? "");
  const named = names.filter((name) => !name.startsWith("#"));
  if (named.length === 0) return ["There are no nodes: no disk was given to who answers there."];
  return [`Nodes that there are: ${listed(named)}`];
}

async function bitmapsInstead(qmp: QmpClient, { node = "", bitmap = "NAME" }: Subject): Promise<readonly string[]> {
  const bitmaps = (await bitmapsOf(qmp)).filter((one) => one.node === node).map(({ name }) => name);
  const add = `heirloom bitmap add ${quoted(node)} ${quoted(bitmap)}`;
  if (bitmaps.length === 0) return [`'${printable(node)}' has no bitmaps. Add it: ${add}`];
  const others = `Bitmaps of '${printable(node)}': ${listed(bitmaps)}`;
  return bitmaps.includes(bitmap) ? [others] : [others, `Add it: ${add}`];
}

async function jobsInstead(qmp: QmpClient): Promise<readonly string[]> {
  const jobs = await qmp.execute("query-jobs");
  return [jobs.length === 0 ? "There are no jobs." : `Jobs that there are: ${listed(jobs.map(({ id }) => id))}`];
}

function targetInstead({ job = "JOB" }: Subject): readonly string[] {
  return [
    `Where its target has been moved to: heirloom resume ${quoted(job)} PATH`,
    `Where it is gone: heirloom cancel ${quoted(job)}; its bitmap is reclaimed, and the next backup catches up.`,
  ];
}

/** A busy bitmap is a job's, an export's or a view's; QEMU's own daemon does not say whose. */
async function whoHas(qmp: QmpClient, { node, bitmap }: Subject): Promise<readonly string[]> {
  const user = await userOf(qmp, node, bitmap);
  if (user?.kind === "job") {
    const { id } = user;
    const waits = (await jobsOf(qmp)).some((job) => job.id === id && job.waits !== null);
    return waits
      ? [`The job '${id}' was cut off, and has it: heirloom resume ${quoted(id)}, or heirloom cancel ${quoted(id)}`]
      : [`The job '${id}' has it: wait for it ('heirloom jobs'), or heirloom cancel ${quoted(id)}`];
  }
  if (user?.kind === "export") {
    return [
      `The export '${printable(user.id)}' shows it to NBD clients, and it is busy as long as they may look.`,
      `Use another one: heirloom bitmap add ${quoted(node ?? "NODE")} NAME`,
    ];
  }
  return ["A job or an export has it: 'heirloom jobs' lists the jobs."];
}

async function userOf(qmp: QmpClient, node?: string, name?: string): Promise<{ kind: string; id: string } | undefined> {
  const actors = await qmp.execute("x-heirloom-query-actors").catch(() => []);
  const found = actors.find((one) => one.kind === "bitmap" && one.node === node && one.name === name);
  return (found?.context as { user?: { kind: string; id: string } } | undefined)?.user ?? undefined;
}

function listed(names: readonly string[]): string {
  return names.map(printable).join(", ");
}
