/**
 * Row 3: what a guest notices. One embedded guest thread writes 4 KiB at random places while full backups run back to back;
 * its IOPS beside its own idle ones of the same round, and how much was copied meanwhile. One round is not counted, the
 * figures are medians over the others. The disk has a bitmap, so every write marks.
 *
 * On a disk the same beside qemu-storage-daemon, whose guest is fio over NBD with one request at a time.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Guest } from "../guest.mjs";
import { createRuntime } from "../heirloom.mjs";
import { missing } from "../peers/installed.mjs";
import { fioRandomWrites } from "../peers/nbd-tools.mjs";
import { QemuStorageDaemon } from "../peers/qemu-storage-daemon.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

const clusterSize = 65536;

export const name = "guest";
export const title = "a guest's 4 KiB random writes while full backups run back to back";

export async function* figures({ quick }) {
  const size = { length: (quick ? 0.5 : 2) * 2 ** 30, rounds: quick ? 2 : 5, seconds: quick ? 1 : 2 };
  {
    const load = await measureOurs("tmpfs", size, {});
    yield* guestFigures("guest-tmpfs", "tmpfs", load, { share: 0.25, copied: 2.5, p99us: 100 });
    const yielding = await measureOurs("tmpfs", size, { priority: "guest" });
    yield* guestFigures("guest-tmpfs-priority", "tmpfs, priority 'guest'", yielding, { share: 0.6, copied: 0.3 });
  }
  const ours = await measureOurs("disk", size, {});
  const why = missing("qemu-storage-daemon", "fio");
  const peer = why === undefined ? await measureTheirs("disk", size) : undefined;
  const ratio = peer === undefined ? undefined : ours.iops / peer.iops;
  yield {
    row: "guest-disk",
    what: "disk: IOPS during backups",
    ours: ours.iops,
    unit: "/s",
    peer: peer?.iops,
    peerName: why ?? "qemu-storage-daemon, fio over NBD",
    ratio,
    bar: ">= 50 times",
    reached: ratio === undefined ? undefined : ratio >= 50 && ours.failures.length === 0,
    note: `${loadNote(ours)}${peer === undefined ? "" : `; peer: p50 ${us(peer.p50us)}, p99 ${us(peer.p99us)}, max ${us(peer.maxUs)}, ${peer.copied.toFixed(2)} GB/s copied`}`,
  };
}

function* guestFigures(row, what, load, bar) {
  const fast = load.copied >= bar.copied && load.failures.length === 0;
  yield {
    row,
    what: `${what}: share of idle IOPS`,
    ours: load.share * 100,
    unit: "%",
    peer: load.idle,
    peerName: "/s when idle",
    bar: `>= ${bar.share * 100} % at >= ${bar.copied} GB/s`,
    reached: load.share >= bar.share && fast,
    note: loadNote(load),
  };
  if (bar.p99us === undefined) return;
  yield {
    row,
    what: `${what}: p99`,
    ours: load.p99us,
    unit: "us",
    bar: `< ${bar.p99us} us at >= ${bar.copied} GB/s`,
    reached: load.p99us < bar.p99us && fast,
  };
}

function loadNote(load) {
  const { iops, p50us, p99us, maxUs, copied, backups, failures, shares } = load;
  const failed = failures.length === 0 ? "" : `; ${failures.length} BACKUPS FAILED: ${failures[0]}`;
  const each = shares.map((share) => (share * 100).toFixed(0)).join(" ");
  return `${iops.toFixed(0)} /s, p50 ${us(p50us)}, p99 ${us(p99us)}, max ${us(maxUs)}, ${copied.toFixed(2)} GB/s copied by ${backups} backups; rounds: ${each} %${failed}`;
}

const us = (value) => (value >= 10_000 ? `${(value / 1000).toFixed(1)} ms` : `${value.toFixed(1)} us`);

/** Our runtime with a disk, a guest and a target that exists. */
export async function measureOurs(kind, { length, rounds, seconds }, backupOptions) {
  const stage = new Stage(kind);
  const runtime = createRuntime();
  try {
    const disk = await runtime.attach({ driver: "file", filename: stage.filled("source.raw", length) });
    await disk.bitmaps.add("daily", { granularity: clusterSize });
    const target = { driver: "file", filename: stage.filled("target.raw", length) };
    const guest = await Guest.start(runtime, disk);
    const all = [];
    for (let round = 0; round <= rounds; round++) {
      guest.begin();
      await sleep(seconds * 500);
      const idle = await guest.end();
      guest.begin();
      const copying = await backUp(
        runtime,
        { disk, target, sync: "full", bitmap: "daily", bitmapMode: "on-success", ...backupOptions },
        seconds * 1000,
      );
      const loaded = await guest.end();
      if (round > 0) all.push({ idle, loaded, ...copying });
    }
    await guest.close();
    return summary(all, length);
  } finally {
    await runtime.close();
    stage.close();
  }
}

/** Backups one after the other, for at least so long and at least two. */
async function backUp(runtime, options, atLeastMs) {
  const begin = performance.now();
  const failures = [];
  let backups = 0;
  do {
    const job = await runtime.backup(options);
    const result = await job.done;
    if (result.status === "completed") backups++;
    else failures.push(result.error);
  } while (backups + failures.length < 2 || performance.now() - begin < atLeastMs);
  return { backups, failures, copyingMs: performance.now() - begin };
}

function summary(rounds, length) {
  const shares = rounds.map(({ idle, loaded }) => loaded.iops / idle.iops);
  const of = (figure) => median(rounds.map(figure));
  return {
    shares,
    share: median(shares),
    idle: of(({ idle }) => idle.iops),
    iops: of(({ loaded }) => loaded.iops),
    p50us: of(({ loaded }) => loaded.histogram.percentile(0.5) / 1000),
    p99us: of(({ loaded }) => loaded.histogram.percentile(0.99) / 1000),
    maxUs: Math.max(...rounds.map(({ loaded }) => loaded.histogram.max / 1000)),
    copied: of(({ backups, copyingMs }) => (backups * length) / 1e6 / copyingMs),
    backups: rounds.reduce((sum, { backups }) => sum + backups, 0),
    failures: rounds.flatMap(({ failures }) => failures),
  };
}

/** The peer: fio writes through its NBD export while it backs up, back to back. */
async function measureTheirs(kind, { length, seconds }) {
  const stage = new Stage(kind);
  const peer = await QemuStorageDaemon.start(stage);
  try {
    await peer.addFile("source", stage.filled("source.raw", length));
    await peer.addFile("target", stage.filled("target.raw", length));
    const uri = await peer.export("source");
    const backup = () => peer.backup({ device: "source", target: "target", sync: "full" });
    await backup();
    let over = false;
    let backups = 0;
    const begin = performance.now();
    const copying = (async () => {
      while (!over) {
        await backup();
        backups++;
      }
      return performance.now() - begin;
    })();
    const measured = await fioRandomWrites(uri, length, seconds * 3);
    over = true;
    const copyingMs = await copying;
    return { ...measured, copied: (backups * length) / 1e6 / copyingMs };
  } finally {
    await peer.stop();
    stage.close();
  }
}
