/** `heirloom serve --journal`: bitmaps that outlive the command. */
import { copyFileSync, existsSync, readdirSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needTool, peer, runHeirloom, scratchDirectory, Serve } from "../command.fixture.ts";

const MiB = 2 ** 20;
const kept = ["--journal", "beside", "--journal-allow-tmpfs"];

function image(directory: string): string {
  const path = join(directory, "vm.raw");
  writeFileSync(path, "");
  truncateSync(path, 8 * MiB);
  return path;
}

async function dirtyBytes(uri: string): Promise<number> {
  const totals = await peer("nbdinfo", "--map=qemu:dirty-bitmap:daily", "--totals", uri);
  return Number(/^\s*(\d+).* dirty$/m.exec(totals)?.[1] ?? 0);
}

test("after kill -9 the next command goes on with the bitmap, and a pull of it makes the backup equal", async (context) => {
  needTool(context, "qemu-io", "qemu-img", "nbdinfo");
  const directory = scratchDirectory();
  const path = image(directory);
  const [socket, backup] = ["s.sock", "backup.raw"].map((name) => join(directory, name));
  const words = [path, "--socket", socket, "--bitmap", "daily", ...kept];
  const first = new Serve(words);
  const uri = await first.uri();
  expect((await first.ready()).exports).toMatchObject([
    {
      journal: {
        path: `${path}.heirloom`,
        bitmaps: [{ name: "daily", dirty: 0, story: expect.stringMatching(/^begins empty/) as string }],
      },
    },
  ]);
  expect((await runHeirloom(["pull", uri, backup])).status).toBe(0);
  await peer("qemu-io", "-f", "raw", "-c", "write -P 1 1M 100k", "-c", "write -P 2 6M 4k", uri);
  await first.end("SIGKILL");

  const second = new Serve(words);
  const again = await second.uri();
  expect((await second.ready()).exports).toMatchObject([
    {
      journal: {
        bitmaps: [{ dirty: 192 * 1024, story: expect.stringMatching(/^recovered after an unclean stop at/) as string }],
      },
    },
  ]);
  expect(await dirtyBytes(again)).toBe(192 * 1024);
  await peer("qemu-io", "-f", "raw", "-c", "write -P 3 4M 64k", again);
  expect((await runHeirloom(["pull", again, backup, "--bitmap", "daily", "--update"])).status).toBe(0);
  expect(await peer("qemu-img", "compare", "-f", "raw", "-F", "raw", backup, again)).toContain("identical");
  await second.end("SIGTERM");

  const fresh = new Serve([path, "--socket", socket, "--bitmap", "daily,fresh", ...kept]);
  expect(await dirtyBytes(await fresh.uri())).toBe(0);
  await fresh.end("SIGTERM");
}, 120_000);

test("a bitmap that cannot be believed is told of, and not exported, until it is begun anew", async (context) => {
  needTool(context, "qemu-io", "nbdinfo");
  const directory = scratchDirectory();
  const path = image(directory);
  const socket = join(directory, "s.sock");
  const started = new Serve([path, "-s", socket, "-b", "daily", ...kept]);
  await started.ready();
  await started.end("SIGTERM");
  copyFileSync(path, `${path}.copy`);
  renameSync(`${path}.copy`, path);
  const distrusted = new Serve([path, "-s", socket, "-b", "daily", ...kept]);
  const { exports } = await distrusted.ready();
  expect(exports).toMatchObject([
    {
      bitmaps: [],
      journal: {
        bitmaps: [
          { name: "daily", inconsistent: true, story: expect.stringMatching(/belongs to another image/) as string },
        ],
      },
    },
  ]);
  const { contexts } = (
    JSON.parse(await peer("nbdinfo", "--json", exports[0].uris[0])) as { exports: { contexts: string[] }[] }
  ).exports[0];
  expect(contexts).toEqual(["base:allocation"]);
  await distrusted.end("SIGTERM");
  const fresh = new Serve([path, "-s", socket, "-b", "daily,fresh", ...kept]);
  expect(await dirtyBytes(await fresh.uri())).toBe(0);
  await fresh.end("SIGTERM");
}, 120_000);

test("a command without --journal goes on with what is kept, so that it does not become wrong", async (context) => {
  needTool(context, "qemu-io", "nbdinfo");
  const directory = scratchDirectory();
  const path = image(directory);
  const socket = join(directory, "s.sock");
  const words = [path, "--socket", socket, "--bitmap", "daily", ...kept];
  const first = new Serve(words);
  await first.ready();
  await first.end("SIGTERM");
  const plain = new Serve([path, "--socket", socket]);
  await peer("qemu-io", "-f", "raw", "-c", "write 1M 64k", await plain.uri());
  await plain.end("SIGKILL");
  const second = new Serve(words);
  expect(await dirtyBytes(await second.uri())).toBe(65536);
  await second.end("SIGTERM");
}, 120_000);

test("sidecars lie in the directory that is given", async () => {
  const directory = scratchDirectory();
  const path = image(directory);
  const place = join(directory, "sidecars");
  const words = [path, "-s", join(directory, "s"), "-b", "daily", "--journal", place, "--journal-allow-tmpfs"];
  const serve = new Serve([...words, "--journal-bound", "1G"]);
  await serve.ready();
  await serve.end("SIGTERM");
  expect(existsSync(`${path}.heirloom`)).toBe(false);
  expect(readdirSync(place)).toEqual([`${path.slice(1).replaceAll("/", "%2F")}.heirloom`]);
  const other = await runHeirloom([
    "serve",
    path,
    "-s",
    join(directory, "s"),
    "-b",
    "daily,granularity=4k",
    ...words.slice(5),
  ]);
  expect(other.status).toBe(1);
  expect(other.errors).toMatch(/has a bitmap 'daily' with a granularity of 65536, and 4096 was asked for\n.*,fresh\n$/);
}, 120_000);

for (const [words, reason] of [
  [["--journal-bound", "4G"], /say how --journal keeps bitmaps/],
  [["--journal", "beside", "--journal-bound", "1M"], /the bound '1M' is none; expected 64M or more/],
  [["--journal", "beside", "--read-only"], /--journal keeps what is written, and --read-only refuses writes/],
  [["--journal", ""], /expected 'beside' or a directory/],
] as const) {
  test(`${words.join(" ")} makes no sense: status 2`, async () => {
    const directory = scratchDirectory();
    const { status, errors } = await runHeirloom(["serve", image(directory), "-s", join(directory, "s"), ...words]);
    expect(status).toBe(2);
    expect(errors).toMatch(reason);
  });
}
