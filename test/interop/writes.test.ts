/** Every way in which qemu-io writes, in an order that a seed decides, against a model of the bytes. */
import { describe, expect, test } from "vitest";
import { firstDifference, Interop, KiB, MiB, noise, run } from "./interop.fixture.ts";
import { servers } from "./servers.fixture.ts";

const length = 4 * MiB;

/** Numbers below a limit. */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

type Flavour = (at: string, pattern: number) => { readonly command: string; readonly fill: number | "discarded" };

/** `at` is offset and length. */
const flavours: Readonly<Record<string, Flavour>> = {
  write: (at, pattern) => ({ command: `write -q -P ${pattern} ${at}`, fill: pattern }),
  "write with FUA": (at, pattern) => ({ command: `write -q -f -P ${pattern} ${at}`, fill: pattern }),
  "write of a vector": (at, pattern) => ({ command: `writev -q -P ${pattern} ${halves(at)}`, fill: pattern }),
  "write of a vector with FUA": (at, pattern) => ({
    command: `writev -q -f -P ${pattern} ${halves(at)}`,
    fill: pattern,
  }),
  "write of zeroes": (at) => ({ command: `write -q -z ${at}`, fill: 0 }),
  "write of zeroes with FUA": (at) => ({ command: `write -q -z -f ${at}`, fill: 0 }),
  "write of zeroes that may be a hole": (at) => ({ command: `write -q -z -u ${at}`, fill: 0 }),
  "write of zeroes that may be a hole, with FUA": (at) => ({ command: `write -q -z -u -f ${at}`, fill: 0 }),
  discard: (at) => ({ command: `discard -q ${at}`, fill: "discarded" }),
};

function halves(at: string): string {
  const [offset, total] = at.split(" ").map(Number) as [number, number];
  const first = Math.max(1, Math.floor(total / 3));
  return total < 2 ? at : `${offset} ${first} ${total - first}`;
}

/** A length of any size, more often a small one; of whole sectors, or not. */
function range(random: (limit: number) => number): [number, number] {
  const size = 1 + random(2 ** (1 + random(18)));
  const offset = random(length - size);
  if (random(2) === 0) return [offset, size];
  return [offset - (offset % 512), Math.ceil(size / 512) * 512];
}

async function qemuIo(uri: string, commands: readonly string[], ...options: string[]): Promise<string> {
  const output = await run("qemu-io", ["-f", "raw", "-d", "unmap", ...options, uri], `${commands.join("\n")}\n`);
  // It goes on after a command that failed, and says so.
  const failed = output.split("\n").filter((line) => /failed|error|invalid/i.test(line));
  if (failed.length > 0) throw new Error(`qemu-io: ${failed.join("; ")}`);
  return output;
}

describe.for(servers)("$name takes writes of qemu-io", (server) => {
  test.for(["writeback", "none", "writethrough"])("every flavour, cache mode %s", async (cache, context) => {
    const seed = 20 + cache.length;
    const scene = await Interop.open(context, server, ["qemu-io"], noise(length, seed));
    const random = randomFrom(seed);
    const commands: string[] = [];
    const discarded: Array<[number, number]> = [];
    for (let index = 0; index < 180; index++) {
      const name = Object.keys(flavours)[index % Object.keys(flavours).length] ?? "write";
      const [offset, size] = range(random);
      const { command, fill } = flavours[name](`${offset} ${size}`, 1 + random(255));
      commands.push(command);
      if (fill === "discarded") discarded.push([offset, size]);
      else {
        scene.expected.fill(fill, offset, offset + size);
        if (index % 5 === 0) commands.push(`read -q -P ${fill} ${offset} ${size}`);
      }
      if (index % 17 === 0) commands.push("flush");
    }
    const seen = Buffer.alloc(length);
    await qemuIo(scene.uri, commands, "-t", cache);
    scene.stored.copy(seen);
    // What a discard left is the old bytes or zeroes.
    for (const [offset, size] of discarded) {
      for (let at = offset; at < offset + size; at++) if (seen[at] === 0) scene.expected[at] = 0;
    }
    expect(firstDifference(seen, scene.expected), `seed ${seed}`).toBe(-1);
  });

  test("many at once that do not overlap, then a flush, then all of them read back", async (context) => {
    const scene = await Interop.open(context, server, ["qemu-io"], noise(length, 40));
    const random = randomFrom(40);
    const writes: string[] = [];
    const reads: string[] = [];
    const slot = 32 * KiB;
    for (let offset = 0; offset < length; offset += slot) {
      const size = 1 + random(slot);
      const pattern = 1 + random(255);
      const flags = ["", "-f ", "-z ", "-z -u "][random(4)] ?? "";
      const zero = flags.startsWith("-z");
      writes.push(`aio_write -q ${flags}${zero ? "" : `-P ${pattern} `}${offset} ${size}`);
      reads.push(`aio_read -q -P ${zero ? 0 : pattern} ${offset} ${size}`);
      scene.expected.fill(zero ? 0 : pattern, offset, offset + size);
    }
    await qemuIo(scene.uri, [...writes, "aio_flush", ...reads, "aio_flush"]);
    expect(firstDifference(scene.stored, scene.expected)).toBe(-1);
  });

  test("a read that finds other bytes than it should says so", async (context) => {
    const scene = await Interop.open(context, server, ["qemu-io"], Buffer.alloc(MiB, 5));
    await qemuIo(scene.uri, ["read -q -P 5 0 1M", "read -q -P 5 999 12345"]);
    await expect(qemuIo(scene.uri, ["read -q -P 6 0 1M"])).rejects.toThrow(/Pattern verification failed/);
  });

  test("nothing goes past the end", async (context) => {
    const scene = await Interop.open(context, server, ["qemu-io"], noise(MiB, 41));
    await expect(qemuIo(scene.uri, [`write -P 1 ${MiB - 512} 1024`])).rejects.toThrow();
    expect(firstDifference(scene.stored, scene.expected)).toBe(-1);
  });
});
