/** Pull backups from QEMU's exports and nbdkit's, into files and into other servers. What must come out is QEMU's word. */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bitmapContext, dirtyExtents, NbdClient, pull, type PullSink } from "@heirloom/nbd";
import { describe, expect, onTestFinished, test } from "vitest";
import { lyingServer } from "./lying-server.fixture.ts";
import { nbdkit, qemuNbd, run, scratchDirectory } from "./peers.fixture.ts";
import { bytes, chunk, u32, u64 } from "./wire.fixture.ts";

const MIB = 1024 * 1024;
const hash = (content: Uint8Array): string => createHash("sha256").update(content).digest("hex");

/** A target in memory, which knows what was written to it. */
class ArraySink implements PullSink {
  readonly content: Uint8Array;
  readonly calls: string[] = [];
  constructor(length: number, fill = 0xee) {
    this.content = new Uint8Array(length).fill(fill);
  }
  async write(buffer: Uint8Array, offset: number): Promise<void> {
    this.content.set(buffer, offset);
    this.calls.push(`write ${offset}+${buffer.length}`);
    await Promise.resolve();
  }
  async writeZeroes(offset: number, length: number): Promise<void> {
    this.content.fill(0, offset, offset + length);
    this.calls.push(`zeroes ${offset}+${length}`);
    await Promise.resolve();
  }
  async flush(): Promise<void> {
    this.calls.push("flush");
    await Promise.resolve();
  }
}

async function target(uri: string): Promise<NbdClient> {
  const client = await NbdClient.connect(uri);
  onTestFinished(() => client.destroy());
  return client;
}

describe("by a dirty bitmap", () => {
  test("a chain of incrementals restores what qemu-img reads from the source", async (context) => {
    const directory = scratchDirectory();
    const image = join(directory, "source.qcow2");
    const backup = join(directory, "backup.raw");
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "24M");
    run("qemu-io", "-c", "write -P 1 0 6M", "-c", "write -P 2 10M 100k", image);
    run("truncate", "-s", "24M", backup);
    for (let round = 0; round < 3; round++) {
      const bitmap = round === 0 ? undefined : `b${round}`;
      const source = await qemuNbd(context, ["-r", "-e", "4", ...(bitmap === undefined ? [] : ["-B", bitmap]), image]);
      const sink = await nbdkit(context, ["file", backup]);
      const result = await pull({
        source: source.uri(),
        target: await target(sink.uri()),
        connections: 4,
        ...(bitmap === undefined ? {} : { bitmap }),
      });
      const copy = join(directory, "copy.raw");
      run("qemu-img", "convert", "-O", "raw", source.uri(), copy);
      expect(hash(readFileSync(backup))).toBe(hash(readFileSync(copy)));
      if (round === 1) {
        expect(result.extents).toEqual([
          { offset: MIB, length: 65536 },
          { offset: 10 * MIB, length: 131_072 },
          { offset: 20 * MIB, length: MIB },
        ]);
        // The zeroes over data, and what the second write left of its cluster.
        expect(result).toMatchObject({ bytesCopied: 65536 + 65536 + MIB, bytesZeroed: 65536, length: 24 * MIB });
      }
      await source.kill();
      run("qemu-img", "bitmap", "--add", "-g", "64k", image, `b${round + 1}`);
      run(
        "qemu-io",
        "-c",
        "write -z 10M 64k",
        "-c",
        `write -P ${round + 5} 1M 64k`,
        "-c",
        "write -P 9 10304k 64k",
        "-c",
        "write -P 7 20M 1M",
        image,
      );
    }
  });

  test("its extents are what `dirtyExtents` says", async (context) => {
    const image = join(scratchDirectory(), "a.qcow2");
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "8M");
    run("qemu-img", "bitmap", "--add", "-g", "64k", image, "b");
    run("qemu-io", "-c", "write 1M 64k", "-c", "write 1088k 1k", "-c", "write 3M 1", image);
    const peer = await qemuNbd(context, ["-r", "-B", "b", image]);
    const client = await NbdClient.connect(peer.uri(), { contexts: [bitmapContext("b")] });
    onTestFinished(() => client.destroy());
    const extents = [];
    for await (const extent of dirtyExtents(client, "b")) extents.push(extent);
    expect(extents).toEqual([
      { offset: MIB, length: 131_072 },
      { offset: 3 * MIB, length: 65536 },
    ]);
  });

  test("a bitmap that the export has not is no reason to copy something else", async (context) => {
    const peer = await nbdkit(context, ["memory", "1M"]);
    const sink = new ArraySink(MIB);
    await expect(pull({ source: peer.uri(), target: sink, bitmap: "none" })).rejects.toMatchObject({
      code: "ERR_NBD_UNSUPPORTED",
      message: expect.stringContaining("qemu:dirty-bitmap:none"),
    });
    expect(sink.calls).toEqual([]);
  });

  test("contexts whose extents have different borders, in answers that stop where the server likes", async () => {
    // Dirty: [0,1000) [3000,5000); zero: [500,3500). One answer covers 2000 bytes of one context, 2500 of the other.
    const dirty = (at: number): number => (at < 1000 || (at >= 3000 && at < 5000) ? 1 : 0);
    const zero = (at: number): number => (at >= 500 && at < 3500 ? 3 : 0);
    const status = (id: number, from: number, to: number, flagsOf: (at: number) => number): Buffer => {
      const runs: number[] = [];
      for (let at = from; at < to; at += 500) runs.push(Math.min(500, to - at), flagsOf(at));
      return bytes(u32(id), ...runs.map(u32));
    };
    const server = await lyingServer({
      length: 6000,
      contexts: ["base:allocation", "qemu:dirty-bitmap:b"],
      onRequest: ({ cookie, type, offset, length }, socket) => {
        if (type === 7) {
          socket.write(chunk(cookie, 5, status(0, offset, Math.min(6000, offset + 2000), zero), 0));
          socket.write(chunk(cookie, 5, status(1, offset, Math.min(6000, offset + 2500), dirty)));
        } else {
          socket.write(chunk(cookie, 1, bytes(u64(offset), Buffer.alloc(length, 7))));
        }
      },
    });
    const sink = new ArraySink(6000);
    const result = await pull({ source: server.uri, target: sink, bitmap: "b", piecesInFlightMax: 1 });
    expect(sink.calls).toEqual([
      "write 0+500",
      "zeroes 500+500",
      "zeroes 3000+500",
      "write 3500+500",
      "write 4000+1000",
      "flush",
    ]);
    expect(result.extents).toEqual([
      { offset: 0, length: 1000 },
      { offset: 3000, length: 2000 },
    ]);
  });
});

describe("without a bitmap", () => {
  test("everything, zeroes as zeroes, over several connections", async (context) => {
    const file = join(scratchDirectory(), "disk");
    const content = Buffer.concat([randomBytes(3 * MIB), Buffer.alloc(5 * MIB), randomBytes(12_345)]);
    writeFileSync(file, content);
    run("fallocate", "-d", file);
    const peer = await nbdkit(context, ["file", file]);
    const sink = new ArraySink(content.length);
    const seen: number[] = [];
    const result = await pull({
      source: peer.uri(),
      target: sink,
      connections: 4,
      onProgress: ({ offset, length }) => {
        expect(length).toBe(content.length);
        seen.push(offset);
      },
    });
    expect(hash(sink.content)).toBe(hash(content));
    expect(result.bytesCopied + result.bytesZeroed).toBe(content.length);
    expect(result.bytesCopied).toBeLessThan(4 * MIB);
    expect(result.extents).toEqual([{ offset: 0, length: content.length }]);
    expect(seen.at(-1)).toBe(content.length);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });

  test("what is allocated, and nothing else is touched", async (context) => {
    const file = join(scratchDirectory(), "disk");
    writeFileSync(file, "");
    run("truncate", "-s", "8M", file);
    run("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=1", "seek=3", "conv=notrunc");
    const peer = await nbdkit(context, ["file", file]);
    const sink = new ArraySink(8 * MIB);
    const result = await pull({ source: peer.uri(), target: sink, allocatedOnly: true });
    expect(result.extents).toEqual([{ offset: 3 * MIB, length: MIB }]);
    expect(sink.content.subarray(0, 3 * MIB).every((byte) => byte === 0xee)).toBe(true);
    await expect(
      pull({ source: (await nbdkit(context, ["--no-sr", "memory", "1M"])).uri(), target: sink, allocatedOnly: true }),
    ).rejects.toMatchObject({ code: "ERR_NBD_UNSUPPORTED" });
  });

  test("a server without block status is read whole, and its zeroes are found", async (context) => {
    const peer = await nbdkit(context, ["--no-sr", "memory", "4M"]);
    const client = await target(peer.uri());
    await client.write(Buffer.from("x"), 2 * MIB);
    const sink = new ArraySink(4 * MIB);
    const result = await pull({ source: peer.uri(), target: sink });
    expect(result).toMatchObject({ bytesCopied: MIB, bytesZeroed: 3 * MIB });
    expect(sink.content.findIndex((byte) => byte !== 0)).toBe(2 * MIB);
  });

  test("an export of nothing is copied", async (context) => {
    const peer = await nbdkit(context, ["memory", "0"]);
    const sink = new ArraySink(0);
    expect(await pull({ source: peer.uri(), target: sink })).toMatchObject({ bytesCopied: 0, extents: [] });
    expect(sink.calls).toEqual(["flush"]);
  });
});

describe("ends", () => {
  test("a read that fails ends it with the server's errno and place, and the target is not flushed", async (context) => {
    const peer = await nbdkit(context, ["--filter=error", "pattern", "8M", "error-pread=EIO", "error-pread-rate=1"]);
    const sink = new ArraySink(8 * MIB);
    await expect(pull({ source: peer.uri(), target: sink })).rejects.toMatchObject({ code: "ERR_NBD_IO", errno: 5 });
    expect(sink.calls).not.toContain("flush");
  });

  test("a target that fails ends it with what it threw, and nothing runs afterwards", async (context) => {
    const peer = await nbdkit(context, ["pattern", "64M"]);
    const sink = new ArraySink(64 * MIB);
    let writes = 0;
    let running = 0;
    sink.write = async () => {
      running++;
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      if (++writes === 5) throw new Error("full");
    };
    await expect(pull({ source: peer.uri(), target: sink })).rejects.toThrow("full");
    expect(running).toBe(0);
    const after = writes;
    await new Promise((resolve) => setImmediate(resolve));
    expect(writes).toBe(after);
    expect(sink.calls).not.toContain("flush");
  });

  test("a flush that fails is a failure", async (context) => {
    const peer = await nbdkit(context, ["pattern", "1M"]);
    const sink = new ArraySink(MIB);
    sink.flush = () => Promise.reject(new Error("not stable"));
    await expect(pull({ source: peer.uri(), target: sink })).rejects.toThrow("not stable");
  });

  test("a signal ends it, also against a server that hangs", async (context) => {
    const peer = await nbdkit(context, ["--filter=delay", "pattern", "8M", "rdelay=60"]);
    const controller = new AbortController();
    const pulling = pull({ source: peer.uri(), target: new ArraySink(8 * MIB), signal: controller.signal });
    setTimeout(() => controller.abort(new Error("enough")), 200);
    await expect(pulling).rejects.toThrow("enough");
  });

  test("a server that is killed and comes back: the copy is the source's, byte for byte", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    const content = randomBytes(16 * MIB);
    writeFileSync(file, content);
    const serve = async (): Promise<{ kill: () => Promise<void>; uri: string; socket: string }> => {
      const peer = await nbdkit(context, ["--filter=delay", "file", file, "rdelay=20ms"], join(directory, "sock"));
      return { kill: () => peer.kill(), uri: peer.uri(), socket: peer.socket };
    };
    let peer = await serve();
    const sink = new ArraySink(content.length);
    let kills = 0;
    const write = sink.write.bind(sink);
    sink.write = async (buffer, offset) => {
      await write(buffer, offset);
      if (sink.calls.length % 5 !== 4 || kills === 3) return;
      kills++;
      await peer.kill();
      run("rm", "-f", peer.socket);
      peer = await serve();
    };
    await pull({ source: peer.uri, target: sink, connections: 2, pieceBytes: 256 * 1024, reconnectDelayMs: 20_000 });
    expect(kills).toBe(3);
    expect(hash(sink.content)).toBe(hash(content));
  });
});
