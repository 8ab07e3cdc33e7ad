/**
 * Many small incrementals, one after the other over QMP, while a guest writes: what a backup costs that has little to do. Both
 * daemons are driven by the same client with the same commands, over one file each, in turns.
 */
import { fileURLToPath } from "node:url";
import { inRounds, medianRatio, spread } from "../nbd/rounds.mjs";
import { missing } from "../peers/installed.mjs";
import { fio } from "../peers/nbd-tools.mjs";
import { QemuStorageDaemon } from "../peers/qemu-storage-daemon.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

export const name = "small-incrementals";
export const title = "incrementals a second over QMP, back to back, a guest writing 4 KiB at random";

const ours = [
  process.execPath,
  fileURLToPath(new URL("../../../packages/cli/dist/storage-daemon/main.js", import.meta.url)),
];
const peerName = "qemu-storage-daemon";
/**
 * Two with a rate that both daemons keep, and two that write as fast as they are let: then the one that serves its guest faster
 * has more to copy each time.
 */
const guests = [
  { what: "guest 1,000 /s at depth 1", depth: 1, options: ["--rate_iops=1000"] },
  { what: "guest 4,000 /s at depth 4", depth: 4, options: ["--rate_iops=4000"] },
  { what: "guest at full speed, depth 1", depth: 1, options: [] },
  { what: "guest at full speed, depth 16", depth: 16, options: [] },
];

export async function* figures({ quick }) {
  const length = 256 * 2 ** 20;
  const seconds = quick ? 2 : 5;
  const stage = new Stage("tmpfs");
  const daemons = new Map();
  const why = missing("fio") ?? missing(peerName);
  try {
    daemons.set("ours", await prepared(stage, "ours", ours, length));
    if (why === undefined) daemons.set(peerName, await prepared(stage, "qemu", [peerName], length));
    for (const guest of guests) {
      const keys = [...daemons.keys()];
      const results = await inRounds(keys, quick ? 2 : 4, (key) => measure(daemons.get(key), guest, length, seconds));
      yield* compared(results, guest.what, why);
    }
  } finally {
    for (const { daemon } of daemons.values()) await daemon.stop().catch(() => {});
    stage.close();
  }
}

async function prepared(stage, name, command, length) {
  const daemon = await QemuStorageDaemon.start(stage, command, name);
  await daemon.addFile("disk", stage.filled(`${name}-disk.raw`, length));
  await daemon.addFile("target", stage.filled(`${name}-target.raw`, length));
  await daemon.execute("block-dirty-bitmap-add", { node: "disk", name: "daily", granularity: 65536 });
  return { daemon, uri: await daemon.export("disk") };
}

/** Incrementals are under way before the first write and until the last. */
async function measure({ daemon, uri }, { depth, options }, length, seconds) {
  let over = false;
  let count = 0;
  const copiedBefore = daemon.copiedBytes;
  const begin = performance.now();
  const backups = (async () => {
    while (!over) {
      await daemon.backup({ device: "disk", target: "target", sync: "incremental", bitmap: "daily" });
      count++;
    }
    return performance.now() - begin;
  })();
  const what = { rw: "randwrite", bs: "4k", depth, length, seconds };
  const guest = await fio(["--ioengine=nbd", `--uri=${uri}`, ...options], what).finally(() => (over = true));
  const elapsedMs = await backups;
  const mebibytes = (daemon.copiedBytes - copiedBefore) / count / 2 ** 20;
  return { ...guest, perSecond: (count / elapsedMs) * 1000, mebibytes };
}

function* compared(results, what, why) {
  const of = (key, figure) => results.get(key).map((result) => result[figure]);
  const perSecond = median(of("ours", "perSecond"));
  if (why !== undefined) {
    yield { row: name, what, ours: perSecond, unit: "/s", peerName: why };
    return;
  }
  const ratio = medianRatio(of("ours", "perSecond"), of(peerName, "perSecond"));
  yield {
    row: name,
    what: `${what}: incrementals`,
    ours: perSecond,
    unit: "/s",
    peer: median(of(peerName, "perSecond")),
    peerName,
    ratio,
    bar: ">= 3 times",
    reached: ratio >= 3,
    note: note("ours", results),
  };
  const slower = medianRatio(of("ours", "p999us"), of(peerName, "p999us"));
  yield {
    row: name,
    what: `${what}: its p99.9`,
    ours: median(of("ours", "p999us")) / 1000,
    unit: "ms",
    peer: median(of(peerName, "p999us")) / 1000,
    peerName,
    ratio: slower,
    bar: "<= 0.5",
    reached: slower <= 0.5,
    note: note(peerName, results),
  };
}

function note(server, results) {
  const of = (figure) => results.get(server).map((result) => result[figure]);
  return (
    `${server}: ${spread(of("perSecond"), 1)} incrementals /s of ${spread(of("mebibytes"), 1)} MiB; guest ${spread(of("iops"), 1)} /s, ` +
    `p50 ${spread(of("p50us"), 1000)} ms, p99.9 ${spread(of("p999us"), 1000)} ms`
  );
}
