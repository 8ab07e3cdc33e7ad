/**
 * What a guest on NBD notices of full backups that run back to back: 4 KiB random writes at depth 16 through fio, ours beside
 * itself when idle, and beside qemu-storage-daemon that backs up as well. A disk's file system, data in the page cache.
 */
import { ours, qemuStorageDaemon } from "../nbd/contestants.mjs";
import { inRounds, medianRatio, spread } from "../nbd/rounds.mjs";
import { missing } from "../peers/installed.mjs";
import { fio } from "../peers/nbd-tools.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

export const name = "nbd-backup";
export const title = "4 KiB random writes at depth 16 over NBD while full backups run back to back";

export async function* figures({ quick }) {
  const length = (quick ? 0.5 : 2) * 2 ** 30;
  const seconds = quick ? 2 : 6;
  const stage = new Stage("disk");
  const servers = [];
  const why = missing("qemu-storage-daemon");
  try {
    const filename = stage.filled("disk.raw", length);
    servers.push(await ours(stage, filename, stage.filled("target.raw", length)));
    if (why === undefined)
      servers.push(await qemuStorageDaemon(stage, filename, stage.filled("qemu-target.raw", length)));
    const phases = servers.flatMap((server) => [
      { server, busy: false, key: `${server.name}, idle` },
      { server, busy: true, key: server.name },
    ]);
    const keys = phases.map(({ key }) => key);
    const results = await inRounds(keys, quick ? 2 : 4, (key) => {
      const { server, busy } = phases.find((phase) => phase.key === key);
      return busy ? whileBackingUp(server, length, seconds) : write(server, length, Math.ceil(seconds / 2));
    });
    yield* compared(results, length, why);
  } finally {
    for (const server of servers) await server.stop();
    stage.close();
  }
}

function write({ uri }, length, seconds) {
  return fio(["--ioengine=nbd", `--uri=${uri}`], { rw: "randwrite", bs: "4k", depth: 16, length, seconds });
}

/** Backups are under way before the first write and until the last. */
async function whileBackingUp(server, length, seconds) {
  let over = false;
  let backups = 0;
  const begin = performance.now();
  const copying = (async () => {
    while (!over) {
      await server.backup();
      backups++;
    }
    return performance.now() - begin;
  })();
  const measured = await write(server, length, seconds).finally(() => (over = true));
  const copyingMs = await copying;
  return { ...measured, copied: (backups * length) / 1e6 / copyingMs };
}

function* compared(results, length, why) {
  const of = (key, figure) => results.get(key).map((result) => result[figure]);
  const share = medianRatio(of("ours", "iops"), of("ours, idle", "iops"));
  yield {
    row: name,
    what: `disk, ${length / 2 ** 30} GiB: share of our idle IOPS`,
    ours: share * 100,
    unit: "%",
    peerName: `${median(of("ours, idle", "iops")).toFixed(0)} /s when idle`,
    bar: ">= 50 %",
    reached: share >= 0.5,
    note: note("ours", results),
  };
  const peer = "qemu-storage-daemon";
  if (why !== undefined) {
    yield { row: name, what: "IOPS", ours: median(of("ours", "iops")), unit: "/s", peerName: why };
    return;
  }
  const ratio = medianRatio(of("ours", "iops"), of(peer, "iops"));
  yield {
    row: name,
    what: "IOPS during backups",
    ours: median(of("ours", "iops")),
    unit: "/s",
    peer: median(of(peer, "iops")),
    peerName: peer,
    ratio,
    bar: ">= 50 times",
    reached: ratio >= 50,
  };
  const slower = medianRatio(of("ours", "p99us"), of(peer, "p99us"));
  yield {
    row: name,
    what: "p99 during backups",
    ours: median(of("ours", "p99us")) / 1000,
    unit: "ms",
    peer: median(of(peer, "p99us")) / 1000,
    peerName: peer,
    ratio: slower,
    bar: "<= 0.02",
    reached: slower <= 0.02,
    note: note(peer, results),
  };
}

function note(server, results) {
  const busy = results.get(server);
  const of = (figure) => busy.map((result) => result[figure]);
  return (
    `${server}: ${spread(of("iops"), 1000)} k/s, p50 ${spread(of("p50us"), 1000)} ms, p99 ${spread(of("p99us"), 1000)} ms, ` +
    `max ${(Math.max(...of("maxUs")) / 1000).toFixed(1)} ms, ${spread(of("copied"), 1, 2)} GB/s copied; ` +
    `idle ${spread(
      results.get(`${server}, idle`).map(({ iops }) => iops),
      1000,
    )} k/s`
  );
}
