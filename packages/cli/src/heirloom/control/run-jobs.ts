/** `heirloom jobs` and `heirloom cancel` with their command lines parsed. */
import type { CommandContext } from "@stricli/core";
import { CommandError } from "../command-error.ts";
import { quoted } from "../shell-words.ts";
import { formatBytes } from "../sizes.ts";
import { printable } from "../terminal/printable.ts";
import { alignRows } from "../terminal/rows.ts";
import { Screen } from "../terminal/screen.ts";
import { ControlClient } from "./control-client.ts";
import type { ControlFlags } from "./control-flags.ts";
import { JobEvents } from "./job-events.ts";
import { type JobRow, type JobWait, jobsOf } from "./jobs.ts";

/** What hangs in a device may take longer to end. */
const END_MS = 20_000;

export async function runJobs(this: CommandContext, flags: ControlFlags): Promise<void> {
  using control = await ControlClient.connect(flags);
  const jobs = await jobsOf(control.qmp);
  const screen = new Screen(process.stdout);
  if (flags.json === true) screen.print(JSON.stringify({ jobs }));
  else if (jobs.length === 0) screen.print("There are no jobs.");
  else {
    screen.print(...alignRows([["JOB", "STATUS", "DONE", "OF", "LIMIT", "ERROR"], ...jobs.map(rowOf)]));
    for (const { id, waits } of jobs) if (waits !== null) screen.print("", ...waitText(id, waits));
  }
}

/** Why it is paused, and what to do. */
function waitText(id: string, { target, frozenAt, until }: JobWait): readonly string[] {
  return [
    `${id} was cut off, and waits for its target '${target}'; its point in time is of ${frozenAt}.`,
    `  To go on: heirloom resume ${quoted(id)}. To give it up: heirloom cancel ${quoted(id)}; by itself it is at ${until}.`,
  ].map(printable);
}

export async function runCancel(this: CommandContext, flags: ControlFlags, id: string): Promise<void> {
  using control = await ControlClient.connect(flags);
  const events = new JobEvents(control.qmp, id);
  const job = (await jobsOf(control.qmp)).find((one) => one.id === id);
  const isOver = job?.status === "concluded";
  await control.run(isOver ? "job-dismiss" : "job-cancel", { id }, { job: id });
  if (!isOver && !(await events.ended(END_MS))) {
    const next = "The device of its target hangs: 'heirloom jobs' says when it has ended.";
    throw new CommandError(`'${id}' was cancelled, and has not ended in ${END_MS / 1000} s`, [next]);
  }
  const screen = new Screen(process.stdout);
  const status = isOver ? "dismissed" : "cancelled";
  if (flags.json === true) screen.print(JSON.stringify({ job: id, status }));
  else if (isOver) screen.print(`${printable(id)}: it had ended already, and is forgotten`);
  else
    screen.print(
      `${printable(id)}: cancelled; its bitmap, if it had one, was reclaimed ('heirloom explain ${quoted(id)}')`,
    );
}

function rowOf({ id, status, offset, length, speed, error }: JobRow): readonly string[] {
  const share = length === 0 ? "" : `${Math.floor((offset / length) * 100)} %`;
  return [printable(id), status, share, formatBytes(length), speed === 0 ? "" : `${formatBytes(speed)}/s`, error ?? ""];
}
