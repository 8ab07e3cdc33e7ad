/** Micro-benchmarks: what the pieces of a guest's write and of a command cost, one thread at work at a time. No bars. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { Bench } from "tinybench";
import { gateBytes } from "../../../packages/engine/dist/gate-layout.js";
import { Gate } from "../../../packages/engine/dist/gate.js";
import { diskMachine } from "../../../packages/runtime/dist/machines/disk-machine.js";
import { MachineActor } from "../../../packages/runtime/dist/machines/machine-actor.js";
import { createRuntime } from "../heirloom.mjs";
import { Stage } from "../stage.mjs";

const clusterSize = 65536;
const many = 1000;
const preserves = 256;

export const name = "micro";
export const title = "pieces, median";

export async function* figures({ quick }) {
  const timeMs = quick ? 100 : 500;
  const stage = new Stage("tmpfs");
  const runtime = createRuntime();
  try {
    const bench = new Bench({ time: timeMs, warmupTime: timeMs / 5 });
    const units = new Map();
    addGate(bench, units);
    await addCommands(bench, units, runtime);
    await bench.run();
    const results = bench.tasks.map(({ name: what, result }) => ({
      name: what,
      state: result.state,
      ms: result.latency?.p50,
    }));
    results.push(...(await guestWrites(runtime, stage, timeMs, units)));
    for (const { name: what, state, ms } of results) {
      if (state !== "completed") throw new Error(`${what}: ${state}`);
      const { count, unit } = units.get(what);
      yield { row: name, what, ours: (ms * (unit === "ns" ? 1e6 : 1e3)) / count, unit };
    }
  } finally {
    await runtime.close();
    stage.close();
  }
}

function addGate(bench, units) {
  const gate = new Gate(new Int32Array(new SharedArrayBuffer(gateBytes)), 0);
  const what = "gate: enter and leave";
  units.set(what, { count: many, unit: "ns" });
  bench.add(what, () => {
    for (let count = 0; count < many; count++) {
      gate.enter(1);
      gate.leave();
    }
  });
}

async function addCommands(bench, units, runtime) {
  const disk = await runtime.attach({ driver: "null-co", size: 2 ** 30 });
  await disk.bitmaps.add("daily", { granularity: clusterSize });
  const command = "command with a transition of an idle disk: clear a bitmap";
  units.set(command, { count: 1, unit: "us" });
  bench.add(command, () => disk.bitmaps.clear("daily"));
  const actor = new MachineActor("disk bench", diskMachine, { name: "bench" }, { now: Date.now });
  const user = { kind: "job", id: "job0" };
  const event = "event of a state machine";
  units.set(event, { count: 2 * many, unit: "us" });
  bench.add(event, () => {
    for (let count = 0; count < many; count++) {
      actor.send({ type: "use", user });
      actor.send({ type: "unuse", user });
    }
  });
}

/** A guest's writes, on a registered thread: to a disk that holds nothing (all but the device), and to files on tmpfs. */
async function guestWrites(runtime, stage, timeMs, units) {
  const nothing = () => runtime.attach({ driver: "null-co", size: 2 ** 30, readZeroes: false });
  const length = preserves * clusterSize;
  const file = (filename) => runtime.attach({ driver: "file", filename: stage.filled(filename, length) });
  const disks = {
    plain: await nothing(),
    recorded: await nothing(),
    viewed: await nothing(),
    unseen: await file("unseen.raw"),
    recordedFile: await file("recorded.raw"),
    keptFile: await runtime.attach(
      { driver: "file", filename: stage.filled("kept.raw", length) },
      { journal: { allowTmpfs: true } },
    ),
    preserved: await file("preserved.raw"),
  };
  await disks.recorded.bitmaps.add("daily", { granularity: clusterSize });
  await disks.viewed.bitmaps.add("daily", { granularity: clusterSize });
  await disks.recordedFile.bitmaps.add("daily", { granularity: clusterSize });
  await disks.keptFile.bitmaps.add("daily", { granularity: clusterSize, persistent: true });
  await disks.viewed.view({ spill: { memory: 64 * 2 ** 20 } }).ready;
  const small = { bytes: 4096, stride: 4096, count: many, unit: "ns" };
  const scattered = { bytes: 4096, stride: clusterSize, count: preserves, unit: "us" };
  const large = { ...scattered, bytes: clusterSize };
  const tasks = [
    { what: "guest write of 4 KiB to null-co: no recorder", disk: "plain", ...small },
    { what: "guest write of 4 KiB to null-co: a recorder", disk: "recorded", ...small },
    { what: "guest write of 4 KiB to null-co: recorder, view (preserved)", disk: "viewed", ...small },
    { what: "guest write of 4 KiB to tmpfs: a recorder", disk: "recordedFile", ...small },
    { what: "guest write of 4 KiB to tmpfs: a persistent recorder (journaled, marked)", disk: "keptFile", ...small },
    { what: "guest write of 4 KiB to tmpfs: no view", disk: "unseen", ...scattered },
    { what: "guest write of 4 KiB to tmpfs that preserves", disk: "preserved", view: true, ...scattered },
    { what: "guest write of 64 KiB to tmpfs: no view", disk: "unseen", ...large },
    { what: "guest write of 64 KiB to tmpfs that preserves 64 KiB", disk: "preserved", view: true, ...large },
  ];
  for (const { what, count, unit } of tasks) units.set(what, { count, unit });
  const handles = Object.fromEntries(Object.entries(disks).map(([key, disk]) => [key, disk.handle()]));
  return await runThread(runtime, { disks: handles, tasks, timeMs }, () =>
    disks.preserved.view({ spill: { memory: 2 * length } }),
  );
}

/** Runs the thread to its end; makes and drops points in time for it. */
async function runThread(runtime, workerData, makeView) {
  const worker = new Worker(new URL("../micro-thread.mjs", import.meta.url), { workerData });
  runtime.register(worker);
  let view;
  let results;
  const answer = async (word) => {
    if (word === "view") await (view = makeView()).ready;
    else await view.fail();
    worker.postMessage("done");
  };
  worker.on("message", (message) => {
    if (message.results === undefined) void answer(message.word);
    else ({ results } = message);
  });
  await once(worker, "exit");
  if (results === undefined) throw new Error("the guest's thread ended without results");
  return results;
}
