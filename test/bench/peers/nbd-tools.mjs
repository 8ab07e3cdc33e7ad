/** Guests of an NBD export: qemu-io writes what it is told, fio writes at random and measures. */
import { spawn } from "node:child_process";
import { once } from "node:events";

/** Writes 4 KiB at each offset. */
export async function writeAt(uri, offsets) {
  const child = spawn("qemu-io", ["-f", "raw", uri], { stdio: ["pipe", "ignore", "inherit"] });
  for (const offset of offsets) child.stdin.write(`write -q -P 85 ${offset} 4096\n`);
  child.stdin.end("quit\n");
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`qemu-io: exit status ${code}`);
}

/** 4 KiB random writes, one at a time. @returns the latencies in microseconds, and how many a second */
export async function fioRandomWrites(uri, length, seconds) {
  const child = spawn("fio", [
    "--name=guest",
    "--ioengine=nbd",
    `--uri=${uri}`,
    "--rw=randwrite",
    "--bs=4k",
    "--iodepth=1",
    `--size=${length}`,
    "--time_based",
    `--runtime=${seconds}`,
    "--output-format=json",
    "--percentile_list=50:99",
    "--randrepeat=1",
  ]);
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`fio: exit status ${code}`);
  const { write } = JSON.parse(output.slice(output.indexOf("{"))).jobs[0];
  const percentiles = write.clat_ns.percentile ?? {};
  return {
    iops: write.iops,
    p50us: (percentiles["50.000000"] ?? Number.NaN) / 1000,
    p99us: (percentiles["99.000000"] ?? Number.NaN) / 1000,
    maxUs: write.clat_ns.max / 1000,
  };
}
