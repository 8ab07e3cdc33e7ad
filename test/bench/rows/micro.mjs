/** Micro-benchmarks: what the pieces of a guest's write and of a command cost, on one thread that nobody disturbs. No bars. */
import { Bench } from "tinybench";
import { DiskIo } from "../../../packages/engine/dist/disk-io.js";
import { gateBytes } from "../../../packages/engine/dist/gate-layout.js";
import { Gate } from "../../../packages/engine/dist/gate.js";
import { ThreadContext } from "../../../packages/engine/dist/thread-context.js";
import { diskMachine } from "../../../packages/runtime/dist/machines/disk-machine.js";
import { MachineActor } from "../../../packages/runtime/dist/machines/machine-actor.js";
import { createRuntime } from "../heirloom.mjs";
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
      if (task.result.state !== "completed")
        throw new Error(`${task.name}: ${task.result.state}`, { cause: task.result.error });
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

/** A disk on this thread, as `openDisk` has it on an embedder's (which the main thread is not): nothing else runs meanwhile. */
function openHere(disk) {
  const { engine, participant, arenaCount, disk: address } = disk.handle();
  const context = ThreadContext.of(engine);
  context.arenas.catchUp(arenaCount);
  if (!context.goLive(participant)) throw new Error("open disk: its handle was taken");
  return new DiskIo(address, context, participant);
}

/** A guest's write to a disk that holds nothing: everything but the device. */
async function addWrites(add, runtime) {
  const size = 2 ** 30;
  const attach = () => runtime.attach({ driver: "null-co", size, readZeroes: false });
  const writer = (disk) => {
    const io = openHere(disk);
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

/** Old data from a file in the page cache into memory slots; and the same writes where nobody wants the old data. */
async function addPreserve(add, runtime, stage) {
  const length = preserves * clusterSize;
  const disk = await runtime.attach({ driver: "file", filename: stage.filled("viewed.raw", length) });
  const plain = await runtime.attach({ driver: "file", filename: stage.filled("plain.raw", length) });
  const viewed = openHere(disk);
  const unseen = openHere(plain);
  for (const [text, bytes] of [
    ["4 KiB", block],
    ["64 KiB", noise(clusterSize, 4)],
  ]) {
    const writeTo = (io) => () => {
      for (let cluster = 0; cluster < preserves; cluster++) io.write(bytes, cluster * clusterSize);
    };
    let view;
    add(`guest write of ${text} to tmpfs that preserves as much`, preserves, "us", writeTo(viewed), {
      beforeEach: async () => {
        view = disk.view({ spill: { memory: 2 * length } });
        await view.ready;
      },
      afterEach: () => view.fail(),
    });
    add(`guest write of ${text} to tmpfs, no view`, preserves, "us", writeTo(unseen));
  }
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
