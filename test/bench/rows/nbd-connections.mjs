/** Four connections against one with as many requests in flight, 4 KiB at random: our own figures, the peers' beside them. */
import { availableParallelism } from "node:os";
import { contestants } from "../nbd/contestants.mjs";
import { inRounds, medianRatio, spread } from "../nbd/rounds.mjs";
import { fio } from "../peers/nbd-tools.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

export const name = "nbd-connections";
export const title = "4 connections against 1 (multi-conn), 32 requests in flight in all";

export async function* figures({ quick }) {
  const length = (quick ? 0.5 : 2) * 2 ** 30;
  const cores = availableParallelism();
  const bar = cores >= 4 ? 1.2 : 0.95;
  const stage = new Stage("tmpfs");
  let servers = [];
  try {
    servers = await contestants(stage, stage.filled("disk.raw", length));
    for (const rw of ["randwrite", "randread"]) {
      const keys = servers.flatMap((server) => [1, 4].map((jobs) => `${server.name} ${jobs}`));
      const results = await inRounds(keys, quick ? 2 : 5, (key) => {
        const { uri } = servers.find((server) => key.startsWith(server.name));
        const jobs = Number(key.split(" ").at(-1));
        const options = { rw, bs: "4k", depth: 32 / jobs, jobs, length, seconds: 1 };
        return fio(["--ioengine=nbd", `--uri=${uri}`, "--thread"], options);
      });
      const of = (server, jobs) => results.get(`${server} ${jobs}`).map(({ iops }) => iops);
      const notes = servers.map(({ name: server }) => {
        const ratio = medianRatio(of(server, 4), of(server, 1)).toFixed(2);
        return `${server} ${spread(of(server, 1), 1000)} and ${spread(of(server, 4), 1000)} k/s: ${ratio}`;
      });
      const ratio = medianRatio(of("ours", 4), of("ours", 1));
      yield {
        row: name,
        what: `tmpfs: 4 KiB random ${rw === "randread" ? "read" : "write"}, 4 connections`,
        ours: median(of("ours", 4)),
        unit: "/s",
        peer: median(of("ours", 1)),
        peerName: "ours, 1 connection",
        ratio,
        bar: `>= ${bar} on ${cores} cores`,
        reached: ratio >= bar,
        note: notes.join("; "),
      };
    }
  } finally {
    for (const server of servers) await server.stop();
    stage.close();
  }
}
