/** Resumable backups over QMP: the daemon ends in the middle, and the next one goes on with the same point in time. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { peer } from "../heirloom/command.fixture.ts";
import { diskOptions, needTool, newImage, RunningDaemon, scratchDirectory } from "./daemon.fixture.ts";

const MiB = 2 ** 20;
const journal = ["--journal", "beside,allow-tmpfs=on"];
beforeEach((context) => needTool(context, "qemu-io", "qemu-img"));

const start = {
  "job-id": "monday",
  device: "disk",
  target: "backup",
  sync: "full",
  bitmap: "daily",
  "bitmap-mode": "on-success",
  resumable: true,
  speed: MiB,
} as const;

async function write(daemon: RunningDaemon, directory: string, ...commands: readonly string[]): Promise<void> {
  const uri = await daemon.serve("disk", join(directory, "nbd.sock"));
  await peer("qemu-io", "-f", "raw", ...commands.flatMap((one) => ["-c", one]), uri);
  await daemon.qmp.execute("block-export-del", { id: "of-disk", mode: "hard" });
  await daemon.qmp.execute("nbd-server-stop", {});
}

test.each(["kill", "stop"] as const)(
  "%s: the job is there, paused, and goes on once its target is",
  async (how) => {
    const path = scratchDirectory();
    const [image, backup, shadow] = ["disk.raw", "backup.raw", "shadow.raw"].map((name) => join(path, name));
    newImage(image, 64 * MiB);
    newImage(backup, 64 * MiB);
    const nodes = [...journal, ...diskOptions("disk", image)];
    const first = await RunningDaemon.start(path, ...nodes, ...diskOptions("backup", backup));
    await write(first, path, "write -P 1 0 32M");
    await first.addBitmap("disk", "daily");
    await first.qmp.execute("blockdev-backup", start);
    copyFileSync(image, shadow); // nobody has written since
    await write(first, path, "write -P 2 40M 64k", "write -P 3 30M 1M");
    await first[how]();

    const second = await RunningDaemon.start(path, ...nodes);
    const job = { id: "monday", type: "backup", status: "paused", "total-progress": 64 * MiB };
    expect(await second.qmp.execute("query-jobs", {})).toMatchObject([job]);
    expect((await second.bitmaps("disk")).at(-1)).toMatchObject({ name: "daily", busy: true, persistent: true });
    await write(second, path, "write -P 4 20M 1M");
    const resume = (): Promise<unknown> => second.qmp.execute("job-resume", { id: "monday" });
    await expect(resume()).rejects.toThrow("waits for its target 'backup', which is not there");
    await second.qmp.execute("blockdev-add", {
      driver: "raw",
      "node-name": "another-name",
      file: { driver: "file", filename: backup },
    });
    const events = second.qmp.events();
    await resume();
    await second.qmp.execute("block-job-set-speed", { device: "monday", speed: 0 });
    for await (const { name, data } of events) {
      if (name !== "BLOCK_JOB_COMPLETED") continue;
      expect(data.error).toBeUndefined();
      break;
    }
    expect(await second.bitmaps("disk")).toMatchObject([{ name: "daily", count: 2 * MiB + 65536, busy: false }]);
    await second.stop();
    expect(await peer("qemu-img", "compare", "-f", "raw", "-F", "raw", shadow, backup)).toContain("identical");
  },
  60_000,
);

test("told to use another node it is given up: its bitmap is reclaimed; job-cancel does the same", async () => {
  const directory = scratchDirectory();
  const [image, backup, other] = ["disk.raw", "backup.raw", "other.raw"].map((name) =>
    newImage(join(directory, name), 8 * MiB),
  );
  const nodes = [...journal, ...diskOptions("disk", image), ...diskOptions("backup", backup)];
  let daemon = await RunningDaemon.start(directory, ...nodes);
  await daemon.addBitmap("disk", "daily");
  await write(daemon, directory, "write -P 1 0 4M");
  for (const verb of ["another", "cancel"]) {
    await daemon.qmp.execute("blockdev-backup", { ...start, speed: 65536 });
    await daemon.kill();
    daemon = await RunningDaemon.start(directory, ...nodes, ...diskOptions("other", other));
    if (verb === "cancel") await daemon.qmp.execute("job-cancel", { id: "monday" });
    else {
      const file = daemon.qmp.execute("job-resume", { id: "monday", filename: join(directory, "no") });
      await expect(file).rejects.toThrow("No such file or directory");
      const both = daemon.qmp.execute("job-resume", { id: "monday", target: "other", filename: image });
      await expect(both).rejects.toThrow("'target' and 'filename' cannot be given together");
      expect(await daemon.qmp.execute("query-jobs", {})).toMatchObject([{ status: "paused" }]);
      const resume = daemon.qmp.execute("job-resume", { id: "monday", target: "other" });
      await expect(resume).rejects.toThrow("goes on with its target 'backup' alone, not with 'other': it was given up");
    }
    await daemon.qmp.execute("blockdev-del", { "node-name": "other" });
    const [bitmap] = await daemon.bitmaps("disk");
    expect(bitmap).toMatchObject({ name: "daily", count: 4 * MiB, busy: false, recording: true });
    await expect.poll(() => daemon.qmp.execute("query-jobs", {}), { timeout: 10_000 }).toEqual([]);
  }
  await daemon.stop();
}, 60_000);
