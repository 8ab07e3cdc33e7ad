/**
 * heirloom-storage-daemon as a process: how soon it answers, and what memory it takes, idle and under load, beside
 * qemu-storage-daemon. Memory is what the kernel counts (VmRSS), the most of samples taken all the while.
 *
 * Under load it may take what an idle one may, and beside that what is declared: the shared memory that is in use (bitmaps, views,
 * spills, copiers' buffers, as `heirloom_shared_memory_bytes` counts them), the server's payload memory, and 8 MiB for each
 * thread beyond the two of an idle one.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { missing } from "../peers/installed.mjs";
import { fio } from "../peers/nbd-tools.mjs";
import { QemuStorageDaemon } from "../peers/qemu-storage-daemon.mjs";
import { median } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

export const name = "daemon";
export const title = "the storage daemon: start, and memory (VmRSS)";

const mib = 2 ** 20;
const peerName = "qemu-storage-daemon";
const program = fileURLToPath(new URL("../../../packages/cli/dist/storage-daemon/main.js", import.meta.url));
const starts = 10;
const barMs = 300;
const barIdleMiB = 90;
const idleThreads = 2;
/** @heirloom/nbd's default. */
const payloadMiB = 64;
const threadMiB = 8;

/** What goes on; each disk has a guest, and, with backups, a full backup after the other. */
const loads = [
  { what: "a guest, 4 KiB random writes, depth 32", disks: 1, rw: "randwrite", bs: "4k", depth: 32, backups: false },
  { what: "a guest, 1 MiB reads, depth 16", disks: 1, rw: "randread", bs: "1m", depth: 16, backups: false },
  { what: "the first with full backups back to back", disks: 1, rw: "randwrite", bs: "4k", depth: 32, backups: true },
  { what: "four disks, each with both", disks: 4, rw: "randwrite", bs: "4k", depth: 8, backups: true },
];

export async function* figures({ quick }) {
  const why = missing(peerName);
  const stage = new Stage("tmpfs");
  try {
    yield* start(stage, why);
    const idle = yield* atRest(stage, why);
    const noFio = missing("fio");
    for (const load of loads) {
      if (noFio !== undefined) yield { row: name, what: load.what, ours: Number.NaN, unit: "MiB", peerName: noFio };
      else yield* under(stage, load, idle, why, quick);
    }
  } finally {
    stage.close();
  }
}

async function* start(stage, why) {
  const own = [];
  const theirs = [];
  for (let round = 0; round < starts; round++) {
    own.push(await firstAnswerMs(stage, [process.execPath, program]));
    if (why === undefined) theirs.push(await firstAnswerMs(stage, [peerName]));
  }
  const msOf = (found) => found.map(({ ms }) => ms);
  const ours = median(msOf(own));
  yield {
    row: name,
    what: `start to the first answer of QMP, median of ${starts}`,
    ours,
    unit: "ms",
    ...(why === undefined ? { peer: median(msOf(theirs)), peerName } : { peerName: why }),
    bar: `< ${barMs} ms`,
    reached: ours < barMs,
    note:
      `${Math.min(...msOf(own)).toFixed(0)} to ${Math.max(...msOf(own)).toFixed(0)} ms, ` +
      `of which ${median(own.map(({ processorMs: busy }) => busy)).toFixed(0)} ms of processor time`,
  };
}

/** @returns {Promise<{ ms: number, processorMs: number }>} from the spawn */
async function firstAnswerMs(stage, [command, ...words]) {
  const path = stage.path("start.sock");
  const begun = performance.now();
  const chardev = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "m"];
  const child = spawn(command, [...words, ...chardev], { stdio: "ignore" });
  const ended = once(child, "exit");
  try {
    for (;;) {
      const answered = await ask(path);
      if (answered) return { ms: performance.now() - begun, processorMs: processorMs(child.pid) };
      if (child.exitCode !== null) throw new Error(`${command} has ended`);
      await sleep(2);
    }
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

/** @returns {Promise<boolean>} false where nobody listens yet */
function ask(path) {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    let text = "";
    socket.on("error", () => resolve(false));
    socket.on("connect", () => socket.write('{"execute": "qmp_capabilities"}\n{"execute": "query-version"}\n'));
    socket.on("data", (bytes) => {
      text += bytes;
      if (text.split('"return"').length < 3) return;
      socket.destroy();
      resolve(true);
    });
  });
}

/** @returns what one of ours had at rest, for the bars of the others */
async function* atRest(stage, why) {
  const ours = await rest(stage, "ours", [process.execPath, program]);
  const theirs = why === undefined ? await rest(stage, "qemu", [peerName]) : undefined;
  const threads = ours.threads - ours.threadsBefore;
  yield {
    row: name,
    what: "one disk on a socket with a bitmap, nobody connected",
    ours: ours.residentMiB,
    unit: "MiB",
    ...(theirs === undefined ? { peerName: why } : { peer: theirs.residentMiB, peerName }),
    bar: `< ${barIdleMiB} MiB`,
    reached: ours.residentMiB < barIdleMiB,
  };
  yield {
    row: name,
    what: "threads that it started for that",
    ours: threads,
    unit: "",
    bar: `<= ${idleThreads}`,
    reached: threads <= idleThreads,
    note: `${ours.threadsBefore} that Node has before there is a disk`,
  };
  return ours;
}

async function rest(stage, key, command) {
  const daemon = await QemuStorageDaemon.start(stage, command, key);
  const threadsBefore = status(daemon.pid, "Threads");
  await addDisk(stage, daemon, key, 0, 64 * mib);
  await sleep(1000);
  const found = { threadsBefore, threads: status(daemon.pid, "Threads"), residentMiB: residentMiB(daemon.pid) };
  await daemon.stop();
  return found;
}

async function addDisk(stage, daemon, key, number, length) {
  for (const what of ["disk", "target"])
    await daemon.addFile(`${what}${number}`, stage.filled(`${key}-${what}${number}.raw`, length));
  await daemon.execute("block-dirty-bitmap-add", { node: `disk${number}`, name: "daily", granularity: 65536 });
  return daemon.export(`disk${number}`);
}

async function* under(stage, load, idle, why, quick) {
  const ours = await work(stage, "ours", [process.execPath, program, "--metrics", stage.path("metrics")], load, quick);
  const theirs = why === undefined ? await work(stage, "qemu", [peerName], load, quick) : undefined;
  const threads = Math.max(0, ours.threads - idle.threadsBefore - idleThreads);
  const allowed = barIdleMiB + ours.sharedMiB + payloadMiB + threads * threadMiB;
  yield {
    row: name,
    what: load.what,
    ours: ours.residentMiB,
    unit: "MiB",
    ...(theirs === undefined ? { peerName: why } : { peer: theirs.residentMiB, peerName }),
    bar: `<= ${allowed.toFixed(0)} MiB`,
    reached: ours.residentMiB <= allowed,
    note:
      `allowed: ${barIdleMiB} idle, ${ours.sharedMiB.toFixed(1)} of shared memory in use, ${payloadMiB} of payload, ${threads} threads more; ` +
      `at rest afterwards ${ours.afterMiB.toFixed(1)} MiB; ${ours.backups} backups`,
  };
}

async function work(stage, key, command, { disks, rw, bs, depth, backups }, quick) {
  const length = (quick ? 64 : 256) * mib;
  const seconds = quick ? 2 : 8;
  const daemon = await QemuStorageDaemon.start(stage, command, key);
  try {
    const uris = [];
    for (let number = 0; number < disks; number++) uris.push(await addDisk(stage, daemon, key, number, length));
    let over = false;
    const most = { residentMiB: 0, threads: 0, sharedMiB: 0, backups: 0, afterMiB: 0 };
    const look = async () => {
      for (let looks = 0; !over; looks++) {
        most.residentMiB = Math.max(most.residentMiB, residentMiB(daemon.pid));
        most.threads = Math.max(most.threads, status(daemon.pid, "Threads"));
        if (key === "ours" && looks % 10 === 9) most.sharedMiB = Math.max(most.sharedMiB, await sharedMiB(stage));
        await sleep(50);
      }
    };
    const backUp = async (number) => {
      while (backups && !over) {
        await daemon.backup({ device: `disk${number}`, target: `target${number}`, sync: "full" });
        most.backups++;
      }
    };
    const looking = look();
    const backing = Promise.all(uris.map((_, number) => backUp(number)));
    const guests = uris.map((uri) => fio(["--ioengine=nbd", `--uri=${uri}`], { rw, bs, depth, length, seconds }));
    await Promise.all(guests).finally(() => (over = true));
    await Promise.all([looking, backing]);
    await sleep(1000);
    most.afterMiB = residentMiB(daemon.pid);
    return most;
  } finally {
    await daemon.stop();
  }
}

/** What all its threads have used so far; the kernel counts in ticks of 10 ms. */
function processorMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** What /proc says of a process. */
function status(pid, field) {
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
}
function residentMiB(pid) {
  return status(pid, "VmRSS") / 1024;
}

/** @returns {Promise<number>} */
function sharedMiB(stage) {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: stage.path("metrics"), path: "/metrics" }, (response) => {
      let text = "";
      response.on("data", (bytes) => (text += bytes));
      response.on("end", () => resolve(Number(/^heirloom_shared_memory_bytes (\S+)/m.exec(text)[1]) / mib));
    });
    asked.on("error", reject);
    asked.end();
  });
}
