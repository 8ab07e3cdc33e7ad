/** fio writes at random, with a checksum in every block, reads all of it back and says if a block is not what it wrote. */
import { closeSync, openSync, writeSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { attempt, Interop, MiB, run } from "./interop.fixture.ts";
import { servers } from "./servers.fixture.ts";

const length = 16 * MiB;

/** @param target what to open, and how; each job has a part of its own */
function job(jobs: number, target: readonly string[], ...more: string[]): string[] {
  const part = length / jobs;
  return [
    ...["--name=verified", "--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned=0", "--iodepth=16", "--randseed=7"],
    ...["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", `--size=${part}`, `--offset_increment=${part}`],
    ...[`--numjobs=${jobs}`, "--group_reporting", "--output-format=json", ...target, ...more],
  ];
}

describe.for(servers)("$name keeps what fio writes", (server) => {
  test.for([1, 4])("%i jobs, each a connection, checked over NBD and then in the file", async (jobs, context) => {
    const scene = await Interop.open(context, server, ["fio"], Buffer.alloc(length));
    const nbd = ["--ioengine=nbd", `--uri=${scene.uri}`];
    const file = ["--ioengine=psync", `--filename=${scene.path("disk.raw")}`];
    const report = reportIn(await run("fio", job(jobs, nbd)));
    // All of it was written, and read back.
    expect(report.jobs[0]).toMatchObject({ error: 0, read: { io_bytes: length }, write: { io_bytes: length } });
    // The same order of offsets and the same checksums, by another way than the server's.
    await run("fio", job(jobs, file, "--verify_only"));

    const fd = openSync(scene.path("disk.raw"), "r+");
    writeSync(fd, Buffer.from("no"), 0, 2, 5 * MiB + 700);
    closeSync(fd);
    expect((await attempt("fio", job(jobs, nbd, "--verify_only"))).status).not.toBe(0);
  });

  test("reads and writes mixed, with flushes and trims", async (context) => {
    const scene = await Interop.open(context, server, ["fio"], Buffer.alloc(length));
    const nbd = ["--ioengine=nbd", `--uri=${scene.uri}`];
    await run("fio", job(1, nbd, "--rw=randrw", "--fsync=8", "--norandommap=0"));
    const trims = [
      "--name=trim",
      "--rw=randtrim",
      "--bs=64k",
      "--iodepth=8",
      `--size=${length}`,
      "--output-format=json",
    ];
    await run("fio", [...trims, ...nbd]);
    expect(scene.stored.equals(Buffer.alloc(length)), "every block was trimmed").toBe(true);
  });
});

interface Report {
  readonly jobs: readonly [{ readonly error: number; readonly read: object; readonly write: object }];
}

/** What comes before the report are remarks of its engine. */
function reportIn(output: string): Report {
  return JSON.parse(output.slice(output.indexOf("{"))) as Report;
}
