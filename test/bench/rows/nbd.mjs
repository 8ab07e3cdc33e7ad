/**
 * Requests over NBD, as fio's nbd engine makes them on a Unix socket: ours, nbdkit's file plugin and qemu-storage-daemon in
 * turn over one file in the page cache, on a disk and on tmpfs. Ours and qemu-storage-daemon have a bitmap that records.
 */
import { contestants } from "../nbd/contestants.mjs";
import { inRounds, medianRatio, ratios, spread } from "../nbd/rounds.mjs";
import { fio } from "../peers/nbd-tools.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

export const name = "nbd";
export const title = "requests over NBD (fio on a Unix socket, data in the page cache)";

/** Bars: of nbdkit's file plugin, and of qemu-storage-daemon. */
const workloads = [
  { what: "4 KiB random write, depth 1", rw: "randwrite", bs: "4k", depth: 1, nbdkit: 0.9, qemu: 1.4 },
  { what: "4 KiB random write, depth 32", rw: "randwrite", bs: "4k", depth: 32, nbdkit: 0.9, qemu: 2.5 },
  { what: "4 KiB random read, depth 1", rw: "randread", bs: "4k", depth: 1, nbdkit: 1, qemu: 1.4 },
  { what: "4 KiB random read, depth 32", rw: "randread", bs: "4k", depth: 32, nbdkit: 1, qemu: 2.5 },
  { what: "1 MiB sequential read, depth 8", rw: "read", bs: "1m", depth: 8, nbdkit: 1, qemu: 1.5 },
  { what: "1 MiB sequential write, depth 8", rw: "write", bs: "1m", depth: 8, nbdkit: 0.9, qemu: 1.5 },
];

export async function* figures({ quick }) {
  const length = (quick ? 0.5 : 2) * 2 ** 30;
  for (const kind of ["disk", "tmpfs"]) {
    const stage = new Stage(kind);
    let servers = [];
    try {
      servers = await contestants(stage, stage.filled("disk.raw", length));
      for (const workload of workloads) {
        const { rw, bs, depth } = workload;
        const results = await inRounds(
          servers.map((server) => server.name),
          quick ? 2 : 7,
          async (name) => {
            const server = servers.find((each) => each.name === name);
            const before = server.processorUs();
            const load = { rw, bs, depth, length, seconds: 1 };
            const measured = await fio(["--ioengine=nbd", `--uri=${server.uri}`], load);
            return { ...measured, requestUs: (server.processorUs() - before) / measured.requests };
          },
        );
        yield* comparison(`${kind}: ${workload.what}`, workload, results);
      }
    } finally {
      for (const server of servers) await server.stop();
      stage.close();
    }
  }
}

function* comparison(what, { bs, nbdkit, qemu }, results) {
  const small = bs === "4k";
  const of = (server) => results.get(server)?.map(({ iops, bytesPerSecond }) => (small ? iops : bytesPerSecond / 1e6));
  const samples = of("ours");
  const notes = [...results].map(([server, rounds]) => {
    const latency = `p50 ${median(rounds.map(({ p50us }) => p50us)).toFixed(0)}, p99 ${median(rounds.map(({ p99us }) => p99us)).toFixed(0)} us`;
    const cost = `${median(rounds.map(({ requestUs }) => requestUs)).toFixed(1)} us of a core a request`;
    return `${server} ${small ? `${spread(of(server), 1000)} k/s` : `${spread(of(server), 1000, 2)} GB/s`}, ${latency}, ${cost}`;
  });
  const bars = [
    ["nbdkit file", nbdkit],
    ["qemu-storage-daemon", qemu],
  ];
  for (const [at, [peerName, bar]] of bars.entries()) {
    const others = of(peerName);
    const ratio = others === undefined ? undefined : medianRatio(samples, others);
    if (others !== undefined) notes.push(`of ${peerName}'s: ${spread(ratios(samples, others), 1, 2)}`);
    yield {
      row: name,
      what: at === 0 ? what : "",
      ours: median(samples),
      unit: small ? "/s" : "MB/s",
      peer: others === undefined ? undefined : median(others),
      peerName: others === undefined ? `${peerName} is not installed` : peerName,
      ratio,
      bar: `>= ${bar}`,
      reached: ratio === undefined ? undefined : ratio >= bar,
      note: at === bars.length - 1 ? notes.join("; ") : undefined,
    };
  }
}
