/** Groups with real job machines: the routing between them is the coordinator's, in its shortest form. */
import { describe, expect, test } from "vitest";
import {
  groupMachine,
  type GroupContext,
  type GroupEffect,
  type GroupEvent,
  type GroupInput,
} from "./group-machine.ts";
import { jobMachine } from "./job-machine.ts";
import type { JobContext, JobEffect, JobEvent, JobInput } from "./job-types.ts";
import { MachineActor } from "./machine-actor.ts";

type Job = MachineActor<JobInput, JobContext, JobEvent, JobEffect>;

class Grouped {
  readonly told: string[] = [];
  readonly jobs: ReadonlyMap<string, Job>;
  readonly group: MachineActor<GroupInput, GroupContext, GroupEvent, GroupEffect>;
  dissolved = false;

  constructor(members: readonly { readonly job: string; readonly manual: boolean }[]) {
    this.group = new MachineActor("g", groupMachine, { id: "g", members }, { now: () => 0 });
    this.jobs = new Map(
      members.map(({ job, manual }) => [
        job,
        new MachineActor(
          "j",
          jobMachine,
          { id: job, group: "g", autoFinalize: !manual, autoDismiss: false },
          { now: () => 0 },
        ),
      ]),
    );
    for (const id of this.jobs.keys()) this.send(id, { type: "start" });
    this.told.length = 0;
  }

  job(id: string): Job {
    const job = this.jobs.get(id);
    if (job === undefined) throw new Error(id);
    return job;
  }

  send(id: string, event: JobEvent): void {
    for (const effect of this.job(id).send(event)) {
      if (effect.type === "status") this.told.push(`${id}:${effect.status}`);
      else if (effect.type === "event") this.told.push(`${id}:${effect.name}`);
      else if (effect.type === "decide") this.told.push(`${id}:decide ${effect.outcome}`);
      else if (effect.type === "wait-for-group") this.#sendGroup({ type: "memberWaiting", job: id });
      else if (effect.type === "finalize-group") this.#sendGroup({ type: "finalize" });
      else if (effect.type === "cancel-group") this.#sendGroup({ type: "memberFailed", job: id });
    }
    if (event.type === "settled") this.#sendGroup({ type: "memberSettled", job: id });
  }

  settleAll(): void {
    for (const id of this.jobs.keys()) this.send(id, { type: "settled" });
  }

  #sendGroup(event: GroupEvent): void {
    const answers = { pend: "groupReady", commit: "commit", cancel: "peerFailed" } as const;
    for (const effect of this.group.send(event)) {
      if (effect.type === "dissolve") this.dissolved = true;
      else for (const id of effect.jobs) this.send(id, { type: answers[effect.type] });
    }
  }
}

const auto = ["a", "b", "c"].map((job) => ({ job, manual: false }));
const mixed = [
  { job: "a", manual: false },
  { job: "b", manual: true },
  { job: "c", manual: false },
];

describe("a group of jobs", () => {
  test("waits until all are done, is pending in reverse order, and then all commit", () => {
    const group = new Grouped(auto);
    group.send("b", { type: "allCopied" });
    group.send("a", { type: "allCopied" });
    expect(group.told).toEqual(["b:waiting", "a:waiting"]);
    group.send("c", { type: "allCopied" });
    expect(group.told.slice(2)).toEqual([
      "c:waiting",
      "c:pending",
      "b:pending",
      "a:pending",
      "a:decide success",
      "b:decide success",
      "c:decide success",
    ]);
    group.settleAll();
    expect(group.told.slice(9)).toEqual(
      ["a", "b", "c"].flatMap((id) => [`${id}:BLOCK_JOB_COMPLETED`, `${id}:concluded`]),
    );
    expect(group).toMatchObject({ dissolved: true, group: { state: "done" } });
  });

  test("is held in pending by any manual member; finalizing any one finalizes all", () => {
    for (const finalized of ["a", "b", "c"]) {
      const group = new Grouped(mixed);
      for (const id of group.jobs.keys()) group.send(id, { type: "allCopied" });
      expect(group.told.filter((line) => line.includes("BLOCK_JOB"))).toEqual(["b:BLOCK_JOB_PENDING"]);
      expect([...group.jobs.values()].map((job) => job.state)).toEqual(["pending", "pending", "pending"]);
      group.told.length = 0;
      group.send(finalized, { type: "finalize" });
      expect(group.told).toEqual(["a:decide success", "b:decide success", "c:decide success"]);
    }
  });

  test("finalize while waiting is refused", () => {
    const group = new Grouped(mixed);
    group.send("a", { type: "allCopied" });
    expect(group.job("a").plan({ type: "finalize" })).toMatchObject({
      refusal: { desc: "Job 'a' in state 'waiting' cannot accept command verb 'finalize'" },
    });
  });

  test("fails as a whole: waiting, paused, pending members are cancelled, and only the first has an error", () => {
    const group = new Grouped(auto);
    group.send("a", { type: "allCopied" });
    group.send("c", { type: "pause", user: true });
    group.told.length = 0;
    group.send("b", { type: "fail", error: "Input/output error" });
    expect(group.told).toEqual([
      "b:aborting",
      "b:decide failure",
      "a:aborting",
      "a:decide cancelled",
      "c:running",
      "c:aborting",
      "c:decide cancelled",
    ]);
    group.told.length = 0;
    group.settleAll();
    expect(group.told.filter((line) => line.includes("BLOCK_JOB"))).toEqual([
      "a:BLOCK_JOB_CANCELLED",
      "b:BLOCK_JOB_COMPLETED",
      "c:BLOCK_JOB_CANCELLED",
    ]);
    expect(group.job("b").context.error).toBe("Input/output error");
    expect(group.dissolved).toBe(true);
  });

  test("cancelling one that is pending cancels all", () => {
    const group = new Grouped(mixed);
    for (const id of group.jobs.keys()) group.send(id, { type: "allCopied" });
    group.send("c", { type: "cancel", force: true });
    expect([...group.jobs.values()].map((job) => job.state)).toEqual(["aborting", "aborting", "aborting"]);
    expect(group.group.state).toBe("aborting");
  });

  test("is decided for all: nobody is cancelled after that, and a lost record fails every member", () => {
    const group = new Grouped(auto);
    for (const id of group.jobs.keys()) group.send(id, { type: "allCopied" });
    for (const job of group.jobs.values()) {
      expect(job.plan({ type: "cancel", force: true })).toMatchObject({ refusal: { code: "ERR_JOB_DECIDED" } });
    }
    for (const id of group.jobs.keys()) group.send(id, { type: "recordFailed", error: "no room" });
    group.settleAll();
    expect(group.told.filter((line) => line.endsWith("BLOCK_JOB_COMPLETED"))).toHaveLength(3);
    expect([...group.jobs.values()].map((job) => job.context.error)).toEqual(["no room", "no room", "no room"]);
    expect(group.dissolved).toBe(true);
  });
});

describe("the group machine: every event in every state", () => {
  const make = (
    events: readonly GroupEvent[],
    members = mixed,
  ): MachineActor<GroupInput, GroupContext, GroupEvent, GroupEffect> => {
    const group = new MachineActor("g", groupMachine, { id: "g", members }, { now: () => 0 });
    for (const event of events) group.send(event);
    return group;
  };
  const waits = (job: string): GroupEvent => ({ type: "memberWaiting", job });
  const settles = (job: string): GroupEvent => ({ type: "memberSettled", job });
  const failed: GroupEvent = { type: "memberFailed", job: "a" };
  const conditions = {
    running: make([]),
    "running, one is missing": make([waits("b"), waits("c")]),
    "running, one auto is missing": make([waits("b"), waits("c")], auto),
    "running, a waits": make([waits("a")]),
    pending: make([waits("a"), waits("b"), waits("c")]),
    committing: make([waits("a"), waits("b"), waits("c")], auto),
    aborting: make([failed]),
    "aborting, one is missing": make([failed, settles("b"), settles("c")]),
    "aborting, a is settled": make([failed, settles("a")]),
    done: make([failed, settles("a"), settles("b"), settles("c")]),
  };
  const events: readonly GroupEvent[] = [waits("a"), failed, settles("a"), { type: "finalize" }, waits("stranger")];
  const table: Readonly<Record<keyof typeof conditions, readonly string[]>> = {
    running: ["running", "aborting", "-", "-", "-"],
    "running, one is missing": ["pending", "aborting", "-", "-", "-"],
    "running, one auto is missing": ["committing", "aborting", "-", "-", "-"],
    "running, a waits": ["-", "aborting", "-", "-", "-"],
    pending: ["-", "aborting", "-", "committing", "-"],
    committing: ["-", "-", "committing", "-", "-"],
    aborting: ["-", "-", "aborting", "-", "-"],
    "aborting, one is missing": ["-", "-", "done", "-", "-"],
    "aborting, a is settled": ["-", "-", "-", "-", "-"],
    done: ["-", "-", "-", "-", "-"],
  };

  test("the table covers every state and every event", () => {
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(groupMachine.states));
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(groupMachine.events));
  });

  for (const [condition, group] of Object.entries(conditions)) {
    test(condition, () => {
      const answers = events.map((event) => {
        const plan = group.plan(event);
        if (plan.ok) return plan.next.state;
        expect(plan.refusal).toMatchObject({ code: "ERR_GROUP_STATE", fields: { state: group.state } });
        return "-";
      });
      expect(answers).toEqual(table[condition as keyof typeof table]);
    });
  }
});
