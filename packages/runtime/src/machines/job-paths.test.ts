/** The job machine along all its simple paths, checked against QEMU's table and the rules of an end. */
import { getSimplePaths } from "xstate/graph";
import { expect, test } from "vitest";
import { jobMachine } from "./job-machine.ts";
import { jobStatus } from "./job-refusal.ts";
import { jobSuccessors, type JobStatus } from "./job-table.ts";
import type { JobContext, JobEffect, JobEvent, JobInput } from "./job-types.ts";
import { MachineActor } from "./machine-actor.ts";

const events: readonly JobEvent[] = [
  { type: "start" },
  { type: "refuse", error: "e" },
  { type: "pause", user: true },
  { type: "resume", user: true },
  { type: "pause", user: false },
  { type: "resume", user: false },
  { type: "cancel", force: true },
  { type: "cancel", force: false },
  { type: "finalize" },
  { type: "dismiss" },
  { type: "allCopied" },
  { type: "groupReady" },
  { type: "commit" },
  { type: "settled" },
  { type: "recordFailed", error: "e" },
  { type: "fail", error: "e" },
  { type: "ioError", operation: "read", action: "stop", noSpace: true, error: "e" },
  { type: "ioError", operation: "read", action: "report", noSpace: false, error: "e" },
  { type: "peerFailed" },
];

/** What decides about effects; the text of an error and io-status do not, and would multiply the paths. */
const key = (state: string, context: JobContext): string =>
  [state, context.userPaused, context.internalPauses, context.copied, context.started, context.cancelled].join();

/** What a client and the engine see; each rule is from DESIGN 3.4 or reference 3.9 to 3.11. Returns what is wrong. */
function violations(effects: readonly JobEffect[], last: JobStatus): readonly string[] {
  const wrong: string[] = [];
  const must = (holds: boolean, rule: string): void => {
    if (!holds) wrong.push(rule);
  };
  let status: JobStatus = "undefined";
  let copying: "no" | "yes" | "paused" = "no";
  let started = false;
  let ends = 0;
  let releases = 0;
  let forgotten = 0;
  for (const effect of effects) {
    must(forgotten === 0, "nothing comes after forget");
    if (effect.type === "status") {
      must(jobSuccessors[status].includes(effect.status), `${status} is not followed by ${effect.status}`);
      status = effect.status;
    } else if (effect.type === "start-copying") {
      must(!started, "copying starts once");
      started = true;
      copying = effect.paused ? "paused" : "yes";
    } else if (effect.type === "pause-copying") {
      must(copying === "yes" && status === "paused", "a copier that runs is paused with its job");
      copying = "paused";
    } else if (effect.type === "resume-copying") {
      must(copying === "paused" && status === "running", "a copier that is paused is resumed with its job");
      copying = "yes";
    } else if (effect.type === "decide") {
      must((effect.outcome === "rolled-back") === !started, "only a job that never started is rolled back");
      must(status === (effect.outcome === "success" ? "pending" : "aborting"), "decided in pending or aborting");
    } else if (effect.type === "release") {
      releases += 1;
    } else if (effect.type === "forget") {
      forgotten += 1;
    } else if (effect.type === "event" && /COMPLETED|CANCELLED/.test(effect.name)) {
      must(releases === 1, "the nodes are let go of before the end is told");
      ends += 1;
    }
  }
  const over = last === "concluded" || last === "null";
  must(status === last, "the last status told is the state");
  must(ends === (over && started ? 1 : 0), "a job that started tells its end once");
  must(releases === (over ? 1 : 0), "the nodes are let go of once");
  must(forgotten === (last === "null" ? 1 : 0), "the id is free at null");
  return wrong;
}

const inputs: readonly JobInput[] = [
  { id: "j" },
  { id: "j", autoFinalize: false, autoDismiss: false },
  { id: "j", group: "g" },
  { id: "j", group: "g", autoFinalize: false },
];

for (const input of inputs) {
  test(`along every simple path of ${JSON.stringify(input)}`, () => {
    const paths = getSimplePaths(jobMachine.logic, {
      input,
      events,
      filterEvents: (snapshot, event) =>
        // Two internal pauses say nothing that one does not.
        (snapshot.context as JobContext).internalPauses === 0 ||
        event.type !== "pause" ||
        (event as { user: boolean }).user,
      serializeState: (snapshot) => key(String(snapshot.value), snapshot.context as JobContext),
    });
    const reached = new Set<string>();
    for (const path of paths) {
      const job = new MachineActor("j", jobMachine, input, { now: () => 0 });
      const effects = [...job.initialEffects];
      for (const step of path.steps.slice(1)) effects.push(...job.send(step.event as JobEvent));
      reached.add(job.state);
      const wrong = violations(effects, jobStatus(job.snapshot));
      if (wrong.length > 0) expect.fail(`${path.steps.map(({ event }) => event.type).join(" ")}: ${wrong.join("; ")}`);
    }
    expect(paths.length).toBeGreaterThan(100);
    const unreachable = [
      ...(input.group === undefined ? ["waiting"] : []),
      ...(input.group === undefined && input.autoFinalize !== false ? ["pending"] : []),
      ...(input.autoDismiss === false ? [] : ["concluded"]),
    ];
    expect(reached).toEqual(new Set(jobMachine.states.filter((state) => !unreachable.includes(state))));
  });
}
