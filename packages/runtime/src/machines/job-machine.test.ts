import { describe, expect, test } from "vitest";
import { jobMachine } from "./job-machine.ts";
import { jobStatus } from "./job-refusal.ts";
import { checkVerb, jobVerbs, type JobStatus, type JobVerb } from "./job-table.ts";
import type { JobContext, JobEffect, JobEvent, JobInput } from "./job-types.ts";
import { MachineActor } from "./machine-actor.ts";

type Job = MachineActor<JobInput, JobContext, JobEvent, JobEffect>;
type EventType = JobEvent["type"];

function make(input: Partial<JobInput> = {}, events: readonly JobEvent[] = []): Job {
  const job: Job = new MachineActor("j", jobMachine, { id: "j", ...input }, { now: () => 0 });
  for (const event of events) job.send(event);
  return job;
}

const start: JobEvent = { type: "start" };
const pause: JobEvent = { type: "pause", user: true };
const resume: JobEvent = { type: "resume", user: true };
const hold: JobEvent = { type: "pause", user: false };
const cancel: JobEvent = { type: "cancel", force: true };
const allCopied: JobEvent = { type: "allCopied" };
const fail: JobEvent = { type: "fail", error: "Input/output error" };
const settled: JobEvent = { type: "settled" };
const manual = { autoFinalize: false, autoDismiss: false };
const grouped = { group: "g" };

/** One event of each kind, the I/O error by its action and the user's verbs by who asks. */
const samples = {
  start,
  refuse: { type: "refuse", error: "no" },
  pause,
  "pause, internal": hold,
  resume,
  "resume, internal": { type: "resume", user: false },
  cancel,
  "cancel, no force": { type: "cancel", force: false },
  complete: { type: "complete" },
  finalize: { type: "finalize" },
  dismiss: { type: "dismiss" },
  setSpeed: { type: "setSpeed", speed: 4096 },
  "setSpeed, negative": { type: "setSpeed", speed: -1 },
  allCopied,
  groupReady: { type: "groupReady" },
  commit: { type: "commit" },
  settled,
  recordFailed: { type: "recordFailed", error: "no room for the record" },
  fail,
  "ioError, report": {
    type: "ioError",
    operation: "write",
    action: "report",
    noSpace: false,
    error: "Input/output error",
  },
  "ioError, ignore": {
    type: "ioError",
    operation: "read",
    action: "ignore",
    noSpace: false,
    error: "Input/output error",
  },
  "ioError, stop": {
    type: "ioError",
    operation: "write",
    action: "stop",
    noSpace: true,
    error: "No space left on device",
  },
  peerFailed: { type: "peerFailed" },
} as const satisfies Readonly<Record<string, JobEvent>>;
const names = Object.keys(samples) as (keyof typeof samples)[];

const conditions = {
  created: { state: "created", make: () => make() },
  "created, paused": { state: "created", make: () => make({}, [pause]) },
  running: { state: "running", make: () => make({}, [start]) },
  "running, manual": { state: "running", make: () => make(manual, [start]) },
  "running, grouped": { state: "running", make: () => make(grouped, [start]) },
  "paused by the user": { state: "paused", make: () => make({}, [start, pause]) },
  "paused by the runtime": { state: "paused", make: () => make({}, [start, hold]) },
  "paused by both": { state: "paused", make: () => make({}, [start, hold, pause]) },
  "paused, all copied": { state: "paused", make: () => make({}, [start, pause, allCopied]) },
  "paused, all copied, manual": { state: "paused", make: () => make(manual, [start, pause, allCopied]) },
  "paused, all copied, grouped": { state: "paused", make: () => make(grouped, [start, pause, allCopied]) },
  waiting: { state: "waiting", make: () => make(grouped, [start, allCopied]) },
  "pending, manual": { state: "pending", make: () => make(manual, [start, allCopied]) },
  "pending, grouped": { state: "pending", make: () => make(grouped, [start, allCopied, samples.groupReady]) },
  committing: { state: "committing", make: () => make({}, [start, allCopied]) },
  "committing, manual dismiss": { state: "committing", make: () => make({ autoDismiss: false }, [start, allCopied]) },
  aborting: { state: "aborting", make: () => make({}, [start, cancel]) },
  "aborting, was paused": { state: "aborting", make: () => make({}, [start, pause, hold, cancel]) },
  "aborting, manual dismiss": { state: "aborting", make: () => make(manual, [start, fail]) },
  "aborting, never started": { state: "aborting", make: () => make(manual, [cancel]) },
  concluded: { state: "concluded", make: () => make(manual, [start, cancel, settled]) },
  null: { state: "null", make: () => make({}, [start, cancel, settled]) },
} as const;
type Condition = keyof typeof conditions;

/**
 * Next state, or why not: V the table of verbs, D decided, P already paused, N not paused, F needs force, S speed,
 * "-" an event out of place.
 */
// prettier-ignore
const table: Readonly<Record<Condition, string>> = {
  //                            start   refuse pause   pauseI  resume  resumeI cancel   cancelNF compl fin dism speed neg allCopied grpReady commit settled recFail fail  report ignore stop peerFailed
  created:                      "running null  created created N       -       aborting aborting V V V created S -          -       -       -    -        aborting -        -       -      aborting",
  "created, paused":            "paused  null  P       created created -       aborting F        V V V created S -          -       -       -    -        aborting -        -       -      aborting",
  running:                      "-       -     paused  paused  N       -       aborting aborting V V V running S committing -       -       -    -        aborting aborting running paused aborting",
  "running, manual":            "-       -     paused  paused  N       -       aborting aborting V V V running S pending    -       -       -    -        aborting aborting running paused aborting",
  "running, grouped":           "-       -     paused  paused  N       -       aborting aborting V V V running S waiting    -       -       -    -        aborting aborting running paused aborting",
  "paused by the user":         "-       -     P       paused  running -       aborting F        V V V paused  S paused     -       -       -    -        aborting aborting paused  paused aborting",
  "paused by the runtime":      "-       -     paused  paused  N       running aborting aborting V V V paused  S paused     -       -       -    -        aborting aborting paused  paused aborting",
  "paused by both":             "-       -     P       paused  paused  paused  aborting F        V V V paused  S paused     -       -       -    -        aborting aborting paused  paused aborting",
  "paused, all copied":         "-       -     P       paused  committing -    aborting F        V V V paused  S -          -       -       -    -        -        -        -       -      aborting",
  "paused, all copied, manual": "-       -     P       paused  pending -       aborting F        V V V paused  S -          -       -       -    -        -        -        -       -      aborting",
  "paused, all copied, grouped":"-       -     P       paused  waiting -       aborting F        V V V paused  S -          -       -       -    -        -        -        -       -      aborting",
  waiting:                      "-       -     V       V       N       V       aborting aborting V V V V       V -          pending -       -    -        -        -        -       -      aborting",
  "pending, manual":            "-       -     V       V       N       V       aborting aborting V committing V V V -      -       -       -    -        -        -        -       -      aborting",
  "pending, grouped":           "-       -     V       V       N       V       aborting aborting V pending V V V -         -       committing - -        -        -        -       -      aborting",
  committing:                   "-       -     D       D       N       D       D        D        D D D D       D -          -       -       null aborting -        -        -       -      -",
  "committing, manual dismiss": "-       -     D       D       N       D       D        D        D D D D       D -          -       -  concluded aborting -        -        -       -      -",
  aborting:                     "-       -     V       V       N       V       V        V        V V V V       V -          -       -       null -        -        -        -       -      -",
  "aborting, was paused":       "-       -     V       V       N       V       V        V        V V V V       V -          -       -       null -        -        -        -       -      -",
  "aborting, manual dismiss":   "-       -     V       V       N       V       V        V        V V V V       V -          -       -  concluded -        -        -        -       -      -",
  "aborting, never started":    "-       -     V       V       N       V       V        V        V V V V       V -          -       -       null -        -        -        -       -      -",
  concluded:                    "-       -     V       V       N       V       V        V        V V null V    V -          -       -       -    -        -        -        -       -      -",
  null:                         "-       -     V       V       N       V       V        V        V V V V       V -          -       -       -    -        -        -        -       -      -",
};

const verbOf: Readonly<Partial<Record<EventType, JobVerb>>> = {
  cancel: "cancel",
  pause: "pause",
  resume: "resume",
  setSpeed: "set-speed",
  complete: "complete",
  finalize: "finalize",
  dismiss: "dismiss",
};

function text(kind: string, status: JobStatus, event: JobEvent): { code: string; desc: string } {
  const verb = `Job 'j' in state '${status}' cannot accept command verb '${verbOf[event.type]}'`;
  switch (kind) {
    case "V":
      return { code: "ERR_JOB_STATE", desc: verb };
    case "D":
      return { code: "ERR_JOB_DECIDED", desc: verb };
    case "P":
      return { code: "ERR_JOB_PAUSED", desc: "Job is already paused" };
    case "N":
      return { code: "ERR_JOB_NOT_PAUSED", desc: "Can't resume a job that was not paused" };
    case "F":
      return { code: "ERR_JOB_PAUSED", desc: "The block job for device 'j' is currently paused" };
    case "S":
      return { code: "ERR_JOB_SPEED", desc: "Parameter 'speed' expects a non-negative value" };
    default:
      return { code: "ERR_JOB_STATE", desc: `Job 'j' in state '${status}' cannot accept '${event.type}'` };
  }
}

describe("every event in every condition", () => {
  test("the table covers every state and every event of the machine", () => {
    expect(new Set(Object.values(conditions).map(({ state }) => state))).toEqual(new Set(jobMachine.states));
    expect(new Set(Object.values(samples).map(({ type }) => type))).toEqual(
      new Set([...jobMachine.events, "complete"]),
    );
    for (const row of Object.values(table)) expect(row.split(/ +/)).toHaveLength(names.length);
  });

  for (const condition of Object.keys(conditions) as Condition[]) {
    for (const [index, name] of names.entries()) {
      const expected = table[condition].split(/ +/)[index];
      test(`${condition}: ${name} -> ${expected}`, () => {
        const job = conditions[condition].make();
        expect(job.state).toBe(conditions[condition].state);
        const plan = job.plan(samples[name]);
        if (plan.ok) {
          expect(plan.next.state).toBe(expected);
        } else {
          const reason = text(expected, jobStatus(job.snapshot), samples[name]);
          expect(plan.refusal.code).toBe(reason.code);
          if (expected === "-") expect(plan.refusal.desc).toContain(reason.desc);
          else expect(plan.refusal.desc).toBe(reason.desc);
          expect(plan.refusal.fields).toMatchObject({ job: "j", state: jobStatus(job.snapshot) });
        }
      });
    }
  }

  test("a verb that QEMU's table refuses is refused, whatever else may be refused too", () => {
    for (const { make: condition } of Object.values(conditions)) {
      for (const event of Object.values(samples)) {
        const verb = verbOf[event.type];
        if (verb === undefined) continue;
        const job = condition();
        if (checkVerb("j", jobStatus(job.snapshot), verb) !== undefined) expect(job.can(event)).toBe(false);
      }
    }
  });

  test("complete is in the table, and never where a backup is", () => {
    expect(jobVerbs.complete).toEqual(["ready", "standby"]);
  });
});

/** JOB_STATUS_CHANGE as J(status), BLOCK_JOB_* by name, as the reference writes them. */
function told(effects: readonly JobEffect[]): string {
  return effects
    .flatMap((effect) => {
      if (effect.type === "status") return [`J(${effect.status})`];
      if (effect.type !== "event") return [];
      return ["error" in effect ? `${effect.name}{error}` : effect.name];
    })
    .join(" ");
}

function story(input: Partial<JobInput>, events: readonly JobEvent[]): string {
  const job = make(input);
  return told([...job.initialEffects, ...events.flatMap((event) => job.send(event))]);
}

describe("sequences of events (reference 3.11, without the pairs that drains add)", () => {
  const end = "J(concluded) J(null)";
  const cases: readonly [string, Partial<JobInput>, readonly JobEvent[], string][] = [
    [
      "success",
      {},
      [start, allCopied, settled],
      `J(created) J(running) J(waiting) J(pending) BLOCK_JOB_COMPLETED ${end}`,
    ],
    [
      "manual finalize and dismiss",
      manual,
      [start, allCopied, samples.finalize, settled, samples.dismiss],
      `J(created) J(running) J(waiting) J(pending) BLOCK_JOB_PENDING BLOCK_JOB_COMPLETED ${end}`,
    ],
    [
      "error report",
      manual,
      [start, samples["ioError, report"], settled],
      "J(created) J(running) BLOCK_JOB_ERROR J(aborting) BLOCK_JOB_COMPLETED{error} J(concluded)",
    ],
    [
      "error stop and resume",
      {},
      [start, samples["ioError, stop"], resume, allCopied, settled],
      `J(created) J(running) BLOCK_JOB_ERROR J(paused) J(running) J(waiting) J(pending) BLOCK_JOB_COMPLETED ${end}`,
    ],
    ["error ignore", {}, [start, samples["ioError, ignore"]], "J(created) J(running) BLOCK_JOB_ERROR"],
    ["cancel", {}, [start, cancel, settled], `J(created) J(running) J(aborting) BLOCK_JOB_CANCELLED ${end}`],
    [
      "cancel of a paused job",
      {},
      [start, pause, cancel, settled],
      `J(created) J(running) J(paused) J(running) J(aborting) BLOCK_JOB_CANCELLED ${end}`,
    ],
    [
      "cancel in pending",
      { autoFinalize: false },
      [start, allCopied, cancel, settled],
      `J(created) J(running) J(waiting) J(pending) BLOCK_JOB_PENDING J(aborting) BLOCK_JOB_CANCELLED ${end}`,
    ],
    ["start refused while the job is made", {}, [samples.refuse], "J(created) J(null)"],
    ["rolled back by its transaction", manual, [cancel, settled], `J(created) J(aborting) ${end}`],
    [
      "a record that could not be written",
      {},
      [start, allCopied, samples.recordFailed, settled],
      `J(created) J(running) J(waiting) J(pending) J(aborting) BLOCK_JOB_COMPLETED{error} ${end}`,
    ],
  ];
  for (const [name, input, events, expected] of cases) {
    test(name, () => expect(story(input, events)).toBe(expected));
  }
});

describe("the end", () => {
  test("is told only after what follows the decision is over, and after the nodes are released", () => {
    const job = make({}, [start]);
    expect(job.send(allCopied).at(-1)).toEqual({ type: "decide", outcome: "success" });
    expect(job.send(settled).map((effect) => effect.type)).toEqual(["release", "event", "status", "status", "forget"]);
  });

  test("of a failure carries its error, of a cancel none, and queries say why", () => {
    const failed = make(manual, [start, fail]);
    expect(failed.send(settled)).toContainEqual({
      type: "event",
      name: "BLOCK_JOB_COMPLETED",
      jobType: "backup",
      device: "j",
      speed: 0,
      error: "Input/output error",
    });
    expect(failed.context.error).toBe("Input/output error");
    const cancelled = make({ ...manual, speed: 5 }, [start, cancel]);
    expect(cancelled.send(settled)).toContainEqual({
      type: "event",
      name: "BLOCK_JOB_CANCELLED",
      jobType: "backup",
      device: "j",
      speed: 5,
    });
    expect(cancelled.context.error).toBe("Operation canceled");
  });

  test("history says what led to it", () => {
    expect(make(manual, [start, fail]).history.map(({ event, from, to, reason }) => [event, from, to, reason])).toEqual(
      [
        ["init", "", "created", undefined],
        ["start", "created", "running", undefined],
        ["fail", "running", "aborting", "Input/output error"],
      ],
    );
  });
});

describe("pause, errors and speed", () => {
  test("an I/O error that stops is a user's pause, and resuming forgets it", () => {
    const job = make({}, [start, samples["ioError, stop"]]);
    expect(job.context).toMatchObject({ userPaused: true, ioStatus: "nospace" });
    job.send({ ...samples["ioError, stop"], noSpace: false });
    expect(job.context.ioStatus).toBe("nospace");
    expect(job.send(resume)).toEqual([{ type: "status", status: "running" }, { type: "resume-copying" }]);
    expect(job.context).toMatchObject({ userPaused: false, ioStatus: "ok" });
    job.send({ ...samples["ioError, stop"], noSpace: false });
    expect(job.context.ioStatus).toBe("failed");
  });

  test("a cancel forgets the I/O error that the job was paused for, as in QEMU", () => {
    const job = make({}, [start, samples["ioError, stop"]]);
    job.send({ type: "cancel", force: true });
    expect(job.context).toMatchObject({ userPaused: false, ioStatus: "ok", cancelled: true });
  });

  test("a job runs again only when the last reason to be paused is gone", () => {
    const job = make({}, [start, pause, hold, hold]);
    expect(job.send(resume)).toEqual([]);
    expect(job.send(samples["resume, internal"])).toEqual([]);
    expect(job.state).toBe("paused");
    expect(told(job.send(samples["resume, internal"]))).toBe("J(running)");
  });

  test("a job paused before its start begins with its drainers only", () => {
    expect(make({}, [pause]).send(start)).toEqual([
      { type: "status", status: "running" },
      { type: "status", status: "paused" },
      { type: "start-copying", paused: true, speed: 0 },
    ]);
  });

  test("speed reaches the copier and stays", () => {
    const job = make({ speed: 1 }, [start]);
    expect(job.send(samples.setSpeed)).toEqual([{ type: "set-speed", speed: 4096 }]);
    expect(job.context.speed).toBe(4096);
    for (const speed of [-1, 0.5, Number.NaN, 2 ** 60]) expect(job.can({ type: "setSpeed", speed })).toBe(false);
  });

  test("a member's failure is told to its group once, and not by those whom the group cancels", () => {
    expect(make(grouped, [start]).send(fail)).toContainEqual({ type: "cancel-group", group: "g" });
    expect(make(grouped, [start]).send(samples.peerFailed)).not.toContainEqual({ type: "cancel-group", group: "g" });
    expect(make(grouped, [start, allCopied]).send(cancel)).toContainEqual({ type: "cancel-group", group: "g" });
  });
});
