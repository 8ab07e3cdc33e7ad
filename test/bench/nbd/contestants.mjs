/**
 * The servers that are compared, over one file: ours and qemu-storage-daemon with a bitmap that records, and nbdkit's file
 * plugin, which tracks nothing. All three have the file open at once, so that rounds can take turns.
 */
import { createRuntime } from "../heirloom.mjs";
import { missing } from "../peers/installed.mjs";
import { Nbdkit } from "../peers/nbdkit.mjs";
import { QemuStorageDaemon } from "../peers/qemu-storage-daemon.mjs";
import { ofOwnThreads, ofProcess } from "./processor-time.mjs";

const granularity = 65536;

/**
 * @typedef {object} Contestant
 * @property {string} name
 * @property {string} uri
 * @property {() => number} processorUs that it has used
 * @property {() => Promise<void>} stop
 * @property {() => Promise<void>} [backup] a full backup to `target`, to its end
 */

/** @returns {Promise<Contestant>} */
export async function ours(stage, filename, target) {
  const runtime = createRuntime();
  const disk = await runtime.attach({ driver: "file", filename, locking: "off" }, { name: "disk" });
  await disk.bitmaps.add("daily", { granularity });
  const server = await runtime.serveNbd({ listen: [{ path: stage.path("ours.sock") }] });
  const { uris } = await server.add({ disk, writable: true, bitmaps: ["daily"] });
  return {
    name: "ours",
    uri: uris[0],
    processorUs: ofOwnThreads,
    stop: () => runtime.close(),
    async backup() {
      const job = await runtime.backup({
        disk,
        target: { driver: "file", filename: target, locking: "off" },
        sync: "full",
      });
      const result = await job.done;
      if (result.status !== "completed") throw new Error(`backup: ${result.error}`);
    },
  };
}

/** @returns {Promise<Contestant>} */
export async function qemuStorageDaemon(stage, filename, target) {
  const daemon = await QemuStorageDaemon.start(stage);
  await daemon.addFile("disk", filename);
  await daemon.execute("block-dirty-bitmap-add", { node: "disk", name: "daily", granularity });
  if (target !== undefined) await daemon.addFile("target", target);
  return {
    name: "qemu-storage-daemon",
    uri: await daemon.export("disk"),
    processorUs: () => ofProcess(daemon.pid),
    stop: () => daemon.stop(),
    async backup() {
      await daemon.backup({ device: "disk", target: "target", sync: "full" });
    },
  };
}

/** @returns {Promise<Contestant>} */
export async function nbdkit(stage, filename) {
  const server = await Nbdkit.start(stage, filename);
  return { name: "nbdkit file", uri: server.uri, processorUs: () => ofProcess(server.pid), stop: () => server.stop() };
}

/** Those that are installed, started. */
export async function contestants(stage, filename) {
  if (missing("fio") !== undefined) throw new Error(missing("fio"));
  const all = [await ours(stage, filename)];
  if (missing("nbdkit") === undefined) all.push(await nbdkit(stage, filename));
  if (missing("qemu-storage-daemon") === undefined) all.push(await qemuStorageDaemon(stage, filename));
  return all;
}
