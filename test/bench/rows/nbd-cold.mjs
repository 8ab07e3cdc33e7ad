/**
 * Reads of what is not in the page cache: do they stand in each other's way? 4 KiB at random of a file whose pages were
 * dropped, depth 32 against depth 1; fio's libaio with direct=1 on the file itself says what the device can.
 */
import { execFileSync } from "node:child_process";
import { contestants } from "../nbd/contestants.mjs";
import { inRounds, medianRatio, spread } from "../nbd/rounds.mjs";
import { fio } from "../peers/nbd-tools.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

export const name = "nbd-cold";
export const title = "4 KiB random reads over NBD of data that is not in the page cache";

const device = "the file itself (libaio, direct)";

export async function* figures({ quick }) {
  const length = (quick ? 0.5 : 2) * 2 ** 30;
  const stage = new Stage("disk");
  let servers = [];
  try {
    const filename = stage.filled("disk.raw", length);
    servers = await contestants(stage, filename);
    const names = [...servers.map((server) => server.name), device];
    const keys = names.flatMap((each) => [1, 32].map((depth) => `${each} ${depth}`));
    const results = await inRounds(keys, quick ? 2 : 4, (key) => {
      const server = servers.find((each) => key.startsWith(each.name));
      const target =
        server === undefined
          ? ["--ioengine=libaio", "--direct=1", `--filename=${filename}`]
          : ["--ioengine=nbd", `--uri=${server.uri}`];
      dropPages(filename);
      const depth = Number(key.split(" ").at(-1));
      return fio(target, { rw: "randread", bs: "4k", depth, length, seconds: quick ? 1 : 2 });
    });
    yield figure(results, names);
  } finally {
    for (const server of servers) await server.stop();
    stage.close();
  }
}

function figure(results, names) {
  const of = (server, depth) => results.get(`${server} ${depth}`).map(({ iops }) => iops);
  const gain = (server) => medianRatio(of(server, 32), of(server, 1));
  const ratio = gain("ours");
  const possible = gain(device);
  const notes = names.map(
    (server) =>
      `${server} ${spread(of(server, 1), 1000)} and ${spread(of(server, 32), 1000)} k/s: ${gain(server).toFixed(1)} times`,
  );
  return {
    row: name,
    what: "disk: depth 32 against depth 1",
    ours: median(of("ours", 32)),
    unit: "/s",
    peer: median(of("ours", 1)),
    peerName: "ours, depth 1",
    ratio,
    bar: possible >= 5 ? ">= 4 times" : `none: the device has ${possible.toFixed(1)} times`,
    reached: possible >= 5 ? ratio >= 4 : undefined,
    note: notes.join("; "),
  };
}

/** POSIX_FADV_DONTNEED for the whole file, which is what dd's flag does where it copies nothing; dirty pages are written first. */
function dropPages(filename) {
  execFileSync("dd", [`of=${filename}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
}
