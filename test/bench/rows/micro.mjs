/** Micro-benchmarks: what the pieces of a guest's write and of a command cost, on one thread that nobody disturbs. No bars. */
import { Bench } from "tinybench";
import { gateBytes } from "../../../packages/engine/dist/gate-layout.js";
import { Gate } from "../../../packages/engine/dist/gate.js";
import { diskMachine } from "../../../packages/runtime/dist/machines/disk-machine.js";
import { MachineActor } from "../../../packages/runtime/dist/machines/machine-actor.js";
import { createRuntime, openDisk } from "../heirloom.mjs";
import { noise, Stage } from "../stage.mjs";

const clusterSize = 65536;
const many = 1000;
const preserves = 256;
const block = noise(4096, 3);

export const name = "micro";
export const title = "pieces, one thread, median";

export async function* figures({ quick }) {
  const stage = new Stage("tmpfs");
  const runtime = createRuntime();
  const bench = new Bench({ time: quick ? 100 : 500, warmupTime: 100 });
  try {
    const units = new Map();
    const add = (what, count, unit, run, options) => {
      units.set(what, { count, unit });
      bench.add(what, run, options);
    };
    addGate(add);
    await addWrites(add, runtime);
    await addPreserve(add, runtime, stage);
    await addCommands(add, runtime);
    await bench.run();
    for (const task of bench.tasks) {
      if (task.result.state !== "completed") throw new Error(`${task.name}: ${task.result.state}`, { cause: task.result.error });
      const { count, unit } = units.get(task.name);
      const ours = (task.result.latency.p50 * (unit === "ns" ? 1e6 : 1e3)) / count;
      yield { row: name, what: task.name, ours, unit };
    }
  } finally {
    await runtime.close();
    stage.close();
  }
}

function addGate(add) {
  const gate = new Gate(new Int32Array(new SharedArrayBuffer(gateBytes)), 0);
  add("gate: enter and leave", many, "ns", () => {
    for (let count = 0; count < many; count++) {
      gate.enter(1);
      gate.leave();
    }
  });
}

/** A guest's write to a disk that holds nothing: everything but the device. */
async function addWrites(add, runtime) {
  const size = 2 ** 30;
  const attach = () => runtime.attach({ driver: "null-co", size, readZeroes: false });
  const writer = (disk) => {
    const { io } = openDisk(disk.handle());
    return () => {
      for (let count = 0; count < many; count++) io.write(block, count * 4096);
    };
  };
  const plain = await attach();
  add("guest write of 4 KiB to null-co: no recorder", many, "ns", writer(plain));
  const recorded = await attach();
  await recorded.bitmaps.add("daily", { granularity: clusterSize });
  add("guest write of 4 KiB to null-co: a recorder", many, "ns", writer(recorded));
  const viewed = await attach();
  await viewed.bitmaps.add("daily", { granularity: clusterSize });
  await viewed.view({ spill: { memory: 64 * 2 ** 20 } }).ready;
  add("guest write of 4 KiB to null-co: a recorder and a view, preserved", many, "ns", writer(viewed));
}

/** Old data of 64 KiB from a file in the page cache into memory slots. */
async function addPreserve(add, runtime, stage) {
  const length = preserves * clusterSize;
  const disk = await runtime.attach({ driver: "file", filename: stage.filled("preserve.raw", length) });
  const { io } = openDisk(disk.handle());
  let view;
  add(
    "guest write of 4 KiB to tmpfs that preserves 64 KiB",
    preserves,
    "us",
    () => {
      for (let cluster = 0; cluster < preserves; cluster++) io.write(block, cluster * clusterSize);
    },
    {
      beforeEach: async () => await (view = disk.view({ spill: { memory: 2 * length } })).ready,
      afterEach: () => view.fail(),
    },
  );
  const plain = await runtime.attach({ driver: "file", filename: stage.filled("plain.raw", length) });
  const guest = openDisk(plain.handle());
  add("guest write of 4 KiB to tmpfs, no view", preserves, "us", () => {
    for (let cluster = 0; cluster < preserves; cluster++) guest.io.write(block, cluster * clusterSize);
  });
}

async function addCommands(add, runtime) {
  const disk = await runtime.attach({ driver: "null-co", size: 2 ** 30 });
  await disk.bitmaps.add("daily", { granularity: clusterSize });
  add("command with a transition of an idle disk: clear a bitmap", 1, "us", () => disk.bitmaps.clear("daily"));
  const actor = new MachineActor("disk bench", diskMachine, { name: "bench" }, { now: Date.now });
  const user = { kind: "job", id: "job0" };
  add("event of a state machine", 2 * many, "us", () => {
    for (let count = 0; count < many; count++) {
      actor.send({ type: "use", user });
      actor.send({ type: "unuse", user });
    }
  });
}
