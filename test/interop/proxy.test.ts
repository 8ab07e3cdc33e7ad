/** nbdkit's nbd plugin in front: its client is another one (libnbd), and its filters ask for what few clients ask for. */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { firstDifference, Interop, KiB, MiB, noise, run } from "./interop.fixture.ts";
import { servers } from "./servers.fixture.ts";

/** Runs a shell command that knows the proxy as $uri. */
async function through(
  scene: Interop,
  filters: readonly string[],
  command: string,
  ...parameters: string[]
): Promise<string> {
  const options = ["--unix", "-", "--exit-with-parent", ...filters.map((filter) => `--filter=${filter}`)];
  return run("nbdkit", [...options, "nbd", `uri=${scene.uri}`, ...parameters, "--run", command]);
}

describe.for(servers)("$name behind nbdkit's nbd plugin", (server) => {
  test("is copied out and in through it", async (context) => {
    const scene = await Interop.open(context, server, ["nbdkit", "nbdcopy"], noise(6 * MiB, 1));
    const copy = scene.path("copy.raw");
    await through(scene, [], `nbdcopy --connections=4 "$uri" ${copy}`);
    expect(firstDifference(readFileSync(copy), scene.expected)).toBe(-1);
    const content = noise(6 * MiB, 2);
    content.fill(0, MiB, 3 * MiB);
    writeFileSync(copy, content);
    await through(scene, [], `nbdcopy --connections=4 --flush ${copy} "$uri"`);
    expect(firstDifference(scene.stored, content)).toBe(-1);
  });

  test("answers a proxy that cuts requests into odd pieces", async (context) => {
    const scene = await Interop.open(context, server, ["nbdkit", "qemu-io"], noise(4 * MiB, 3));
    // Clients of the proxy see blocks of 4 KiB; the server gets reads, and writes of what was read and changed, of 12 KiB.
    const commands = ["write -P 7 1000001 300000", "write -z 2500000 70000", "flush"];
    const io = `qemu-io -f raw ${commands.map((command) => `-c '${command}'`).join(" ")} "$uri"`;
    await through(scene, ["blocksize"], io, "minblock=4K", "maxdata=12K");
    scene.expected.fill(7, 1_000_001, 1_300_001);
    scene.expected.fill(0, 2_500_000, 2_570_000);
    expect(firstDifference(scene.stored, scene.expected)).toBe(-1);
  });

  test("shows its extents through it", async (context) => {
    const content = Buffer.alloc(4 * MiB);
    noise(128 * KiB, 4).copy(content, MiB);
    const scene = await Interop.open(context, server, ["nbdkit", "nbdinfo"], content);
    const map = JSON.parse(await through(scene, [], `nbdinfo --map --json "$uri"`)) as Array<{
      offset: number;
      type: number;
    }>;
    expect(map.map(({ offset, type }) => [offset, type])).toEqual([
      [0, 3],
      [MiB, 0],
      [MiB + 128 * KiB, 3],
    ]);
  });
});
