/**
 * What a persistent bitmap costs a guest over NBD: the same disk with a transient one beside it, in turn. Warm: granules are journaled
 * and regions marked. Cold: the first ten seconds after an attach, with nothing marked. Over four times the bound, where room has to be
 * made for marks all the time. What a guest feels of regions that are settled elsewhere on its disk. And how soon a disk of 1 TiB
 * answers its first request after a kill.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createRuntime } from "../heirloom.mjs";
import { inRounds, medianRatio, ratios, spread } from "../nbd/rounds.mjs";
import { fio } from "../peers/nbd-tools.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

const granularity = 65536;
const names = ["transient", "persistent"];

export const name = "journal";
export const title = "a persistent bitmap against a transient one, over NBD (fio on a Unix socket)";

export async function* figures({ quick }) {
  const length = (quick ? 0.5 : 2) * 2 ** 30;
  const stage = new Stage("disk");
  try {
    const files = new Map(names.map((one) => [one, stage.filled(`${one}.raw`, length)]));
    const small = { rw: "randwrite", bs: "4k", depth: 32, length };
    yield* cold(stage, files, { ...small, seconds: quick ? 2 : 10 }, quick ? 1 : 5);
    yield* warm(stage, files, small, length, quick ? 2 : 7);
    yield* overBound(stage, files, { ...small, seconds: quick ? 2 : 5 }, length / 4, quick ? 1 : 3);
    yield* settling(stage, files, length, quick ? 2 : 7);
    yield* restart(stage, quick ? 1 : 5);
  } finally {
    stage.close();
  }
}

async function* cold(stage, files, load, rounds) {
  const results = await inRounds(names, rounds, async (one) => {
    const server = await serve(stage, files.get(one), one);
    try {
      return await fio(["--ioengine=nbd", `--uri=${server.uri}`], load);
    } finally {
      await server.stop();
    }
  });
  yield figure(
    `4 KiB random write, depth 32, first ${load.seconds} s after attach`,
    results,
    ({ iops }) => iops,
    "/s",
    0.6,
  );
}

async function* warm(stage, files, small, length, rounds) {
  const servers = new Map();
  try {
    for (const one of names) servers.set(one, await serve(stage, files.get(one), one));
    const measure = (load) => (one) => fio(["--ioengine=nbd", `--uri=${servers.get(one).uri}`], load);
    const fill = measure({ rw: "write", bs: "1m", depth: 8, length, seconds: 5 });
    for (const one of names) await fill(one);
    const random = await inRounds(names, rounds, measure({ ...small, seconds: 2 }));
    yield figure("4 KiB random write, depth 32, warm", random, ({ iops }) => iops, "/s", 0.9);
    const sequential = await inRounds(names, rounds, measure({ rw: "write", bs: "1m", depth: 8, length, seconds: 1 }));
    yield figure(
      "1 MiB sequential write, depth 8",
      sequential,
      ({ bytesPerSecond }) => bytesPerSecond / 1e6,
      "MB/s",
      0.95,
    );
  } finally {
    for (const server of servers.values()) await server.stop();
  }
}

/** No bar: what a bound that is too small for its guest costs. */
async function* overBound(stage, files, load, bound, rounds) {
  const results = await inRounds(names, rounds, async (one) => {
    const server = await serve(stage, files.get(one), one, { bound });
    try {
      return await fio(["--ioengine=nbd", `--uri=${server.uri}`], load);
    } finally {
      await server.stop();
    }
  });
  const what = `4 KiB random write, depth 32, over four times the bound (${bound / 2 ** 20} MiB)`;
  const { reached: _, bar: __, ...row } = figure(what, results, ({ iops }) => iops, "/s", 0);
  yield row;
}

/** Regions of the disk's other half are written, left alone and settled, over and over; or never settled. */
async function* settling(stage, files, length, rounds) {
  const kinds = new Map([
    ["still", { settleMs: 2 ** 30 }],
    ["settling", { settleMs: 1000 }], // oftener than by default, so that every round has some
  ]);
  const servers = new Map();
  const timers = [];
  try {
    for (const [index, [kind, options]] of [...kinds].entries()) {
      // Both are the persistent one's kind: each has a file of its own.
      const server = await serve(stage, files.get(names[index]), kind, options, true);
      servers.set(kind, server);
      const regionBytes = 64 * 2 ** 20;
      const others = length / 2 / regionBytes;
      let turn = 0;
      const block = new Uint8Array(4096).fill(1);
      timers.push(
        setInterval(() => {
          for (let region = turn++ % 4; region < others; region += 4)
            void server.disk.write(block, length / 2 + region * regionBytes).catch(() => {});
        }, 1500),
      );
    }
    const load = { rw: "randwrite", bs: "4k", depth: 1, length: length / 2, seconds: 2 };
    const measure = async (kind) => {
      const { uri, disk } = servers.get(kind);
      const before = disk.journal?.settled ?? 0;
      const result = await fio(["--ioengine=nbd", `--uri=${uri}`], load);
      return { ...result, settled: (disk.journal?.settled ?? 0) - before };
    };
    const results = await inRounds([...kinds.keys()], rounds, measure);
    const p99 = (kind) => results.get(kind).map(({ p99us }) => p99us);
    const ratio = medianRatio(p99("settling"), p99("still"));
    yield {
      row: name,
      what: "guest p99 while regions settle, 4 KiB random write, depth 1",
      ours: median(p99("settling")),
      unit: "us",
      peer: median(p99("still")),
      peerName: "nothing settles",
      ratio,
      bar: "<= 1.5",
      reached: ratio <= 1.5,
      note: `${spread(ratios(p99("settling"), p99("still")), 1, 2)} of it; ${median(results.get("settling").map(({ settled }) => settled))} regions settled in a round`,
    };
  } finally {
    for (const timer of timers) clearInterval(timer);
    for (const server of servers.values()) await server.stop();
  }
}

/** A process that has a disk of 1 TiB is killed; how much longer the next one takes than after a clean stop. */
async function* restart(stage, rounds) {
  const image = stage.path("large.raw");
  const samples = { killed: [], clean: [] };
  await run(image, "make");
  for (let round = 0; round < rounds; round++) {
    await run(image, "kill");
    samples.killed.push((await run(image, "clean")).milliseconds);
    samples.clean.push((await run(image, "clean")).milliseconds);
  }
  const more = median(samples.killed) - median(samples.clean);
  yield {
    row: name,
    what: "restart to first request after kill -9, 1 TiB, beyond a clean start",
    ours: more,
    unit: "ms",
    bar: "< 500 ms",
    reached: more < 500,
    note: `killed ${median(samples.killed).toFixed(0)} ms, clean ${median(samples.clean).toFixed(0)} ms`,
  };
}

async function run(image, role) {
  const program = fileURLToPath(new URL("../journal-process.mjs", import.meta.url));
  const child = spawn(process.execPath, [program, image, role], { stdio: ["ignore", "pipe", "inherit"] });
  let answer;
  for await (const line of createInterface({ input: child.stdout })) {
    answer = JSON.parse(line);
    if (role === "kill") child.kill("SIGKILL");
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, "close");
  if (answer === undefined) throw new Error(`the process of ${role} said nothing`);
  return answer;
}

async function serve(stage, filename, one, journal = {}, persistent = one === "persistent") {
  const runtime = createRuntime();
  const disk = await runtime.attach({ driver: "file", filename, locking: "off" }, { name: one, journal });
  const known = disk.bitmaps.list().length > 0;
  if (known) await disk.bitmaps.clear("daily");
  else await disk.bitmaps.add("daily", { granularity, persistent });
  const server = await runtime.serveNbd({ listen: [{ path: stage.path(`${one}.sock`) }] });
  const { uris } = await server.add({ disk, writable: true });
  return { uri: uris[0], disk, stop: () => runtime.close() };
}

function figure(what, results, of, unit, bar) {
  const ours = results.get("persistent").map(of);
  const others = results.get("transient").map(of);
  const ratio = medianRatio(ours, others);
  const p99 = names.map((one) => `${one} p99 ${median(results.get(one).map(({ p99us }) => p99us)).toFixed(0)} us`);
  return {
    row: name,
    what,
    ours: median(ours),
    unit,
    peer: median(others),
    peerName: "transient",
    ratio,
    bar: `>= ${bar}`,
    reached: ratio >= bar,
    note: `${spread(ratios(ours, others), 1, 2)} of the transient one's; ${p99.join(", ")}`,
  };
}
