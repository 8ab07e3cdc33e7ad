/** `heirloom resume` with its command line parsed: a job that waits goes on, and is followed to its end. */
import { existsSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import type { HeirloomActor } from "@heirloom/qmp";
import type { CommandContext } from "@stricli/core";
import { CommandError } from "../command-error.ts";
import { finishedName, partialName } from "../new-file.ts";
import { StopSignals } from "../stop-signals.ts";
import { paintFor } from "../terminal/colours.ts";
import { ProgressDisplay } from "../terminal/progress-display.ts";
import { Screen } from "../terminal/screen.ts";
import { type BackupResult, follow } from "./backup.ts";
import type { BackupPlan, Target } from "./backup-plan.ts";
import { ControlClient } from "./control-client.ts";
import type { ResumeFlags } from "./resume-command.ts";
import { conclude } from "./run-backup.ts";

export async function runResume(this: CommandContext, flags: ResumeFlags, job: string, text?: string): Promise<void> {
  using control = await ControlClient.connect(flags);
  const actors = await control.qmp.execute("x-heirloom-query-actors").catch(() => []);
  const actor = actors.find(({ kind, name, ended }) => kind === "job" && name === job && !ended);
  if (actor === undefined) {
    // There is none, or it is one of QEMU's daemon, which says of none how it goes on.
    await control.run("job-resume", { id: job }, { job });
    const json = JSON.stringify({ job, status: "resumed" });
    new Screen(process.stdout).print(flags.json === true ? json : `${job}: resumed ('heirloom jobs')`);
    return;
  }
  const { waits } = actor;
  if (waits === undefined && text !== undefined) {
    throw new CommandError(`'${job}' has its target, '${actor.target ?? ""}'`, [
      "Only a job that was cut off is told where its target is. Leave TARGET out.",
    ]);
  }
  const nodes = await control.run("query-named-block-nodes", { flat: true });
  const isNode = (name: string): boolean => nodes.some((one) => one["node-name"] === name);
  const diskLength = nodes.find((one) => one["node-name"] === actor.node)?.image["virtual-size"] ?? 0;
  const target = targetOf(text ?? waits?.target ?? actor.target ?? "", isNode);
  const plan = planOf(actor, target);
  // A node is found by what it is: a name that is mistaken must not end the job.
  const filename = waits === undefined ? undefined : fileOf(target);
  const start = async (): Promise<string> => {
    if (flags.speed !== undefined) await control.run("block-job-set-speed", { device: job, speed: flags.speed });
    await control.run("job-resume", { id: job, ...(filename === undefined ? {} : { filename }) }, { job });
    return `${job} goes on. Ctrl-C cancels it.`;
  };
  using signals = new StopSignals();
  const progress = new ProgressDisplay(new Screen(process.stderr), paintFor(process.stderr));
  let result: BackupResult;
  try {
    result = await follow(control, plan, job, start, signals, progress);
  } finally {
    progress.end();
  }
  conclude(plan, diskLength, result, flags.json === true);
}

/** A file that was new is still called otherwise, and gets its name when it is whole. */
function targetOf(text: string, isNode: (name: string) => boolean): Target {
  if (isNode(text)) return { kind: "node", name: text };
  const given = resolve(text);
  const unfinished = partialName(given);
  const file = existsSync(unfinished) ? unfinished : given;
  const path = finishedName(file);
  if (path !== undefined) return { kind: "new", path, unfinished: file };
  // The name of a node that is not there: nobody has a file of that name, and who is driven says what is missing.
  return isAbsolute(text) || existsSync(file) ? { kind: "existing", path: file } : { kind: "node", name: text };
}

function fileOf(target: Target): string | undefined {
  switch (target.kind) {
    case "node":
      return undefined;
    case "existing":
      return target.path;
    case "new":
      return target.unfinished;
  }
}

function planOf(actor: HeirloomActor, target: Target): BackupPlan {
  const { node = "", sync = "full", bitmap, "bitmap-mode": bitmapMode } = actor;
  return {
    node,
    target,
    sync: sync as BackupPlan["sync"],
    bitmap,
    bitmapMode: bitmapMode as BackupPlan["bitmapMode"],
    speed: 0,
    resumable: actor.waits !== undefined,
    syncSpill: false, // as its record says
  };
}
