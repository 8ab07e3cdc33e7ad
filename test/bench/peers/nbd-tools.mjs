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
export function fioRandomWrites(uri, length, seconds) {
  return fio(["--ioengine=nbd", `--uri=${uri}`], { rw: "randwrite", bs: "4k", depth: 1, length, seconds });
}

/**
 * fio for some seconds. With several jobs each has a connection and a part of the export of its own.
 *
 * @param target options that say what it opens, and how
 * @returns {Promise<{ requests: number, iops: number, bytesPerSecond: number, p50us: number, p99us: number, p999us: number, maxUs: number }>}
 */
export async function fio(target, { rw, bs, depth, length, seconds, jobs = 1, rampSeconds = 0 }) {
  const part = length / jobs;
  const child = spawn("fio", [
    "--name=guest",
    ...target,
    `--rw=${rw}`,
    `--bs=${bs}`,
    `--iodepth=${depth}`,
    `--size=${part}`,
    `--offset_increment=${part}`,
    `--numjobs=${jobs}`,
    "--group_reporting",
    "--time_based",
    `--runtime=${seconds}`,
    `--ramp_time=${rampSeconds}`,
    "--output-format=json",
    "--percentile_list=50:99:99.9",
    "--randrepeat=1",
  ]);
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  let output = "";
  let errors = "";
  child.stdout.on("data", (data) => (output += data));
  child.stderr.on("data", (data) => (errors += data));
  const [code] = await once(child, "close");
  process.removeListener("exit", kill);
  if (code !== 0) throw new Error(`fio: exit status ${code}\n${errors}${output.slice(0, 2000)}`);
  const [job] = JSON.parse(output.slice(output.indexOf("{"))).jobs;
  const side = rw.includes("read") ? job.read : job.write;
  const percentiles = side.clat_ns.percentile ?? {};
  return {
    requests: side.total_ios,
    iops: side.iops,
    bytesPerSecond: side.bw_bytes,
    p50us: (percentiles["50.000000"] ?? Number.NaN) / 1000,
    p99us: (percentiles["99.000000"] ?? Number.NaN) / 1000,
    p999us: (percentiles["99.900000"] ?? Number.NaN) / 1000,
    maxUs: side.clat_ns.max / 1000,
  };
}
