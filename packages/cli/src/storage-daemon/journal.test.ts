/** Persistent bitmaps of the daemon: a process that is killed, and the next one. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { diskOptions, needTool, newImage, QemuDaemon, RunningDaemon, scratchDirectory } from "./daemon.fixture.ts";
import { peer } from "../heirloom/command.fixture.ts";

const MiB = 2 ** 20;
const journal = ["--journal", "beside,allow-tmpfs=on"];

test("fio writes over NBD, the daemon is killed, the next incremental makes the backup equal to the disk", async (context) => {
  needTool(context, "fio", "qemu-img");
  const directory = scratchDirectory();
  const [image, backup] = ["disk.raw", "backup.raw"].map((name) => newImage(join(directory, name), 64 * MiB));
  const nodes = [...journal, ...diskOptions("disk", image), ...diskOptions("backup", backup)];
  const first = await RunningDaemon.start(directory, ...nodes);
  await first.addBitmap("disk", "daily");
  expect(await first.backup("backup", { device: "disk" })).toBeNull();
  const uri = await first.serve("disk", join(directory, "nbd.sock"));
  const load = ["--rw=randwrite", "--bsrange=4k-64k", "--size=64m", "--iodepth=8", "--time_based", "--runtime=60"];
  const fio = spawn("fio", ["--name=guest", "--ioengine=nbd", `--uri=${uri}`, ...load], {
    cwd: directory,
    stdio: "ignore",
  });
  const ended = once(fio, "close");
  while ((await first.bitmaps("disk"))[0].count < 16 * MiB) await new Promise((resolve) => setTimeout(resolve, 10));
  await first.kill();
  fio.kill("SIGKILL");
  await ended;

  const second = await RunningDaemon.start(directory, ...nodes);
  const [bitmap] = await second.bitmaps("disk");
  expect(bitmap).toMatchObject({ name: "daily", recording: true, busy: false, persistent: true });
  expect(bitmap).not.toHaveProperty("inconsistent");
  expect(await second.bitmaps("disk-file")).toEqual([]);
  expect(bitmap.count).toBeGreaterThanOrEqual(16 * MiB);
  expect(await second.backup("backup", { device: "disk", bitmap: "daily" })).toBeNull();
  expect((await second.bitmaps("disk"))[0].count).toBe(0);
  await second.stop();
  expect(await peer("qemu-img", "compare", "-f", "raw", "-F", "raw", image, backup)).toContain("identical");
}, 240_000);

test("add, disable, enable, clear, merge, remove and block_resize are there after a kill that follows their answer", async (context) => {
  needTool(context, "qemu-io");
  const directory = scratchDirectory();
  const image = newImage(join(directory, "disk.raw"), 8 * MiB);
  const nodes = [...journal, ...diskOptions("disk", image)];
  const write = async (daemon: RunningDaemon, ...granules: number[]): Promise<void> => {
    const uri = await daemon.serve("disk", join(directory, "nbd.sock"));
    const writes = granules.flatMap((granule) => ["-c", `write ${granule * 65536} 512`]);
    await peer("qemu-io", "-f", "raw", ...writes, uri);
    await daemon.qmp.execute("block-export-del", { id: "of-disk", mode: "hard" });
    await daemon.qmp.execute("nbd-server-stop", {});
  };
  const bits = async (daemon: RunningDaemon): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await daemon.bitmaps("disk")).map(({ name, count, granularity, recording }) => [
        name ?? "",
        `${count / granularity}${recording ? "" : " disabled"}`,
      ]),
    );
  /** What each step says to the monitor, and what the daemon that is started after the kill has to say. */
  const steps: [(daemon: RunningDaemon) => Promise<unknown>, Record<string, string>][] = [
    [
      async (daemon) => {
        await daemon.addBitmap("disk", "a");
        await daemon.addBitmap("disk", "b", { disabled: true });
        await write(daemon, 1, 2);
      },
      { a: "2", b: "0 disabled" },
    ],
    [(daemon) => daemon.qmp.execute("block-dirty-bitmap-enable", { node: "disk", name: "b" }), { a: "2", b: "0" }],
    [(daemon) => write(daemon, 5), { a: "3", b: "1" }],
    [(daemon) => daemon.qmp.execute("block-dirty-bitmap-clear", { node: "disk", name: "a" }), { a: "0", b: "1" }],
    [
      (daemon) => daemon.qmp.execute("block-dirty-bitmap-disable", { node: "disk", name: "b" }),
      { a: "0", b: "1 disabled" },
    ],
    [(daemon) => write(daemon, 9), { a: "1", b: "1 disabled" }],
    [
      (daemon) => daemon.qmp.execute("block-dirty-bitmap-merge", { node: "disk", target: "a", bitmaps: ["b"] }),
      { a: "2", b: "1 disabled" },
    ],
    [
      (daemon) => daemon.qmp.execute("block_resize", { "node-name": "disk", size: 16 * MiB }),
      { a: "2", b: "1 disabled" },
    ],
    [(daemon) => write(daemon, 200), { a: "3", b: "1 disabled" }],
    [(daemon) => daemon.qmp.execute("block-dirty-bitmap-remove", { node: "disk", name: "b" }), { a: "3" }],
    [(daemon) => daemon.qmp.execute("block-dirty-bitmap-remove", { node: "disk", name: "a" }), {}],
  ];
  let daemon = await RunningDaemon.start(directory, ...nodes);
  for (const [step, expected] of steps) {
    await step(daemon);
    await daemon.kill();
    daemon = await RunningDaemon.start(directory, ...nodes);
    expect(await bits(daemon), step.toString()).toEqual(expected);
  }
  await daemon.stop();
}, 240_000);

test("an inconsistent bitmap is told, refused and removed as in QEMU", async (context) => {
  needTool(context, "qemu-storage-daemon", "qemu-img");
  const directory = scratchDirectory();
  const image = newImage(join(directory, "disk.raw"), MiB);
  const nodes = [...journal, ...diskOptions("disk", image)];
  const first = await RunningDaemon.start(directory, ...nodes);
  await first.addBitmap("disk", "daily");
  await first.stop();
  writeFileSync(image, "written behind its back", { flag: "r+" });
  const ours = await RunningDaemon.start(directory, ...nodes);

  // QEMU's is inconsistent once its daemon was killed.
  const qcow2 = join(directory, "disk.qcow2");
  await peer("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M");
  await peer("qemu-img", "bitmap", "--add", qcow2, "daily");
  const theirs = await QemuDaemon.start(directory, qcow2);
  await theirs.kill();
  const again = await QemuDaemon.start(directory, qcow2);

  const [inconsistent] = await ours.bitmaps("disk");
  expect(inconsistent).toEqual(await again.bitmap());
  expect(inconsistent).toMatchObject({ inconsistent: true, recording: false });
  const target = { "job-id": "j", device: "disk", target: "disk-file", sync: "incremental", bitmap: "daily" } as const;
  for (const [command, args] of [
    ["block-dirty-bitmap-enable", { node: "disk", name: "daily" }],
    ["block-dirty-bitmap-clear", { node: "disk", name: "daily" }],
    ["block-dirty-bitmap-merge", { node: "disk", target: "daily", bitmaps: ["daily"] }],
    ["block-dirty-bitmap-add", { node: "disk", name: "daily", persistent: true }],
    ["blockdev-backup", target],
  ] as const) {
    const said = await ours.qmp.executeAny(command, args).then(
      () => "done",
      (error: unknown) => (error as Error).message,
    );
    expect(said, command).toBe(await again.refusal(command, args));
  }
  await ours.qmp.execute("block-dirty-bitmap-remove", { node: "disk", name: "daily" });
  await ours.addBitmap("disk", "daily");
  await ours.kill();
  const last = await RunningDaemon.start(directory, ...nodes);
  expect(await last.bitmaps("disk")).toMatchObject([{ name: "daily", recording: true }]);
  await last.stop();
}, 240_000);

test("sidecars lie beside the images, or in a directory, named by their images' paths", async () => {
  const directory = scratchDirectory();
  const [one, other] = ["a%b.raw", "c.raw"].map((name) => newImage(join(directory, name), MiB));
  const beside = await RunningDaemon.start(directory, ...journal, ...diskOptions("disk", one));
  await beside.addBitmap("disk", "daily");
  await beside.stop();
  expect(existsSync(`${one}.heirloom`)).toBe(true);

  const place = join(directory, "sidecars");
  const apart = ["--journal", `${place},allow-tmpfs=on,bound=64M`];
  const inDirectory = await RunningDaemon.start(directory, ...apart, ...diskOptions("disk", other));
  await inDirectory.addBitmap("disk", "daily");
  await inDirectory.kill();
  expect(readdirSync(place)).toEqual([`${other.slice(1).replaceAll("/", "%2F")}.heirloom`]);
  const again = await RunningDaemon.start(directory, ...apart, ...diskOptions("disk", other));
  expect(await again.bitmaps("disk")).toMatchObject([{ name: "daily", recording: true }]);
  await again.stop();
  // The one that lies beside its image would be passed over.
  await expect(RunningDaemon.start(directory, ...apart, ...diskOptions("disk", one))).rejects.toThrow(
    /has persistent bitmaps in '.*a%b\.raw\.heirloom', which would become wrong without a word/,
  );
}, 240_000);

test("without --journal persistent bitmaps are refused as in QEMU, and an image that has some is not opened for writing", async () => {
  const directory = scratchDirectory();
  const image = newImage(join(directory, "disk.raw"), MiB);
  const plain = await RunningDaemon.start(directory, ...diskOptions("disk", image));
  await expect(plain.addBitmap("disk", "daily")).rejects.toThrow(
    "Can't store persistent bitmaps to disk: Operation not supported",
  );
  await plain.stop();
  const keeping = await RunningDaemon.start(directory, ...journal, ...diskOptions("disk", image));
  await keeping.addBitmap("disk", "daily");
  await keeping.stop();
  await expect(RunningDaemon.start(directory, ...diskOptions("disk", image))).rejects.toThrow(
    /attach it with that journal, or remove the file and begin with a full backup/,
  );
  const reading = await RunningDaemon.start(
    directory,
    "--blockdev",
    `file,node-name=disk,filename=${image},read-only=on`,
  );
  await reading.stop();
}, 240_000);

test("--journal that makes no sense ends it with status 1 and one line", async () => {
  const directory = scratchDirectory();
  for (const [text, reason] of [
    ["", "Parameter 'place' is missing"],
    ["beside,bound=x", "Parameter 'bound' expects size"],
    ["beside,what=1", "Parameter 'what' is unexpected"],
  ]) {
    await expect(RunningDaemon.start(directory, "--journal", text), text).rejects.toThrow(
      `heirloom-storage-daemon: --journal ${text}: ${reason}`,
    );
  }
  const image = newImage(join(directory, "disk.raw"), MiB);
  const daemon = await RunningDaemon.start(directory, "--journal", "beside,bound=1M", ...diskOptions("disk", image));
  await expect(daemon.addBitmap("disk", "daily")).rejects.toThrow(/expected a bound of at least 67108864 bytes/);
  expect(readFileSync(image).equals(Buffer.alloc(MiB))).toBe(true);
  await daemon.stop();
});

test("an image that was opened for reading has its bitmaps once it is reopened for writing, and keeps them after a kill", async (context) => {
  needTool(context, "qemu-io");
  const directory = scratchDirectory();
  const image = newImage(join(directory, "disk.raw"), 8 * MiB);
  const first = await RunningDaemon.start(directory, ...journal, ...diskOptions("disk", image));
  await first.addBitmap("disk", "daily");
  await first.stop();
  const [, file, , raw] = diskOptions("disk", image).map((option) => `${option},read-only=on`);
  const second = await RunningDaemon.start(directory, ...journal, "--blockdev", file, "--blockdev", raw);
  expect(await second.bitmaps("disk")).toEqual([]);
  await second.qmp.execute("blockdev-reopen", {
    options: [
      { driver: "file", "node-name": "disk-file", filename: image },
      { driver: "raw", "node-name": "disk", file: "disk-file" },
    ],
  });
  expect(await second.bitmaps("disk")).toMatchObject([{ name: "daily", count: 0, persistent: true }]);
  const uri = await second.serve("disk", join(directory, "nbd.sock"));
  await peer("qemu-io", "-f", "raw", "-c", "write 1M 64k", uri);
  await second.kill();
  const third = await RunningDaemon.start(directory, ...journal, ...diskOptions("disk", image));
  expect(await third.bitmaps("disk")).toMatchObject([{ name: "daily", count: 65536, persistent: true }]);
  await third.stop();
});
