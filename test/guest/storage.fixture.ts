/** What puts the guest's disk on NBD and backs it up meanwhile: the same verbs for ours and for the peer. */
import { createRuntime } from "@heirloom/runtime";
import { QemuStorageDaemon } from "../bench/peers/qemu-storage-daemon.mjs";

export interface Storage {
  /** Of a writable export of the disk. */
  readonly uri: string;
  /**
   * Begins a backup of the disk, by 1 MiB/s until `hurry`. Once this resolves its instant has been: what the guest said until
   * the call is in it, and what the guest does from now on is not.
   */
  backup(sync: "full" | "incremental"): Promise<RunningBackup>;
  /** A read-only export of one instant, which has been once this resolves; where the storage can. */
  pull?(): Promise<PulledInstant>;
  close(): Promise<void>;
}

export interface PulledInstant {
  readonly uri: string;
  /** All of it was read. */
  close(): Promise<void>;
}

export interface RunningBackup {
  /** As fast as it can from now on. */
  hurry(): Promise<void>;
  /** Everything is in the target. */
  readonly done: Promise<void>;
}

const slow = 2 ** 20;

export type StartStorage = (scratch: string, image: string, target: string) => Promise<Storage>;

/** @param target a file of the disk's length: a full backup fills it, each incremental brings it up to date */
export async function qemuStorage(scratch: string, image: string, target: string): Promise<Storage> {
  const daemon = await QemuStorageDaemon.start({ path: (name) => `${scratch}/${name}` });
  await daemon.addFile("disk", image, { discard: "unmap" });
  await daemon.addFile("target", target);
  await daemon.execute("block-dirty-bitmap-add", { node: "disk", name: "daily" });
  return {
    uri: await daemon.export("disk"),
    async backup(sync) {
      const bitmap = { node: "disk", name: "daily" };
      const { id, done } = await daemon.begin(
        { device: "disk", target: "target", speed: slow, sync, ...(sync === "full" ? {} : { bitmap: bitmap.name }) },
        sync === "full" ? [{ type: "block-dirty-bitmap-clear", data: bitmap }] : [],
      );
      return {
        async hurry() {
          await daemon.execute("block-job-set-speed", { device: id, speed: 0 });
        },
        done: done.then(() => {}),
      };
    },
    close: () => daemon.stop(),
  };
}

export async function heirloomStorage(scratch: string, image: string, target: string): Promise<Storage> {
  const runtime = createRuntime();
  try {
    const disk = await runtime.attach({ driver: "file", filename: image }, { name: "disk" });
    await disk.bitmaps.add("daily", { granularity: 65536 });
    const server = await runtime.serveNbd({ listen: [{ path: `${scratch}/heirloom.sock` }] });
    const { uris } = await server.add({ disk, writable: true, bitmaps: [] });
    return {
      uri: uris[0],
      async backup(sync) {
        const job = await runtime.backup({
          disk,
          target: { driver: "file", filename: target },
          sync,
          bitmap: "daily",
          bitmapMode: "on-success",
          speed: slow,
        });
        return {
          hurry: async () => job.setSpeed(0),
          done: job.done.then(({ status, error }) => {
            if (status !== "completed") throw new Error(`backup: ${error ?? status}`);
          }),
        };
      },
      async pull() {
        const view = disk.view();
        await view.ready;
        const exported = await server.add({ view });
        return {
          uri: exported.uris[0],
          async close() {
            await exported.remove();
            await view.success();
          },
        };
      },
      close: () => runtime.close(),
    };
  } catch (error) {
    await runtime.close();
    throw error;
  }
}
