/** The client against servers that others wrote: nbdkit in many shapes, and QEMU's. */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NbdClient, type NbdExtent } from "@heirloom/nbd";
import { describe, expect, onTestFinished, test } from "vitest";
import { nbdkit, type Peer, qemuNbd, run, scratchDirectory } from "./peers.fixture.ts";

const MIB = 1024 * 1024;

async function connect(
  peer: Peer,
  options: Parameters<typeof NbdClient.connect>[1] = {},
  name = "",
): Promise<NbdClient> {
  const client = await NbdClient.connect(peer.uri(name), options);
  onTestFinished(() => client.destroy());
  return client;
}

async function extentsOf(client: NbdClient, context: string): Promise<NbdExtent[]> {
  const extents: NbdExtent[] = [];
  for await (const extent of client.blockStatus(context)) extents.push(extent);
  return extents;
}

async function readAll(client: NbdClient): Promise<Uint8Array> {
  const bytes = new Uint8Array(client.length).fill(0xee);
  await client.read(bytes, 0);
  return bytes;
}

const hash = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

describe("every verb, in each of the protocol's forms", () => {
  const forms: readonly (readonly [string, readonly string[], { structured: boolean; contexts: string[] }])[] = [
    ["structured replies", [], { structured: true, contexts: ["base:allocation"] }],
    ["simple replies", ["--no-sr"], { structured: false, contexts: [] }],
    ["newstyle that is not fixed", ["--mask-handshake=0"], { structured: false, contexts: [] }],
    ["fixed newstyle with its zeroes", ["--mask-handshake=1"], { structured: true, contexts: ["base:allocation"] }],
  ];
  test.for(forms)("%s", async ([_name, args, expected], context) => {
    const peer = await nbdkit(context, [...args, "memory", "4M"]);
    const client = await connect(peer);
    expect(client.length).toBe(4 * MIB);
    expect(client.features.structuredReplies).toBe(expected.structured);
    expect(client.contexts).toEqual(expected.contexts);

    const model = new Uint8Array(4 * MIB);
    const data = randomBytes(1_000_001);
    await client.write(data, 77_777);
    model.set(data, 77_777);
    await client.writeZeroes(200_000, 300_000);
    model.fill(0, 200_000, 500_000);
    await client.writeZeroes(600_000, 1, { noHole: true, fua: true });
    model[600_000] = 0;
    await client.trim(2 * MIB, MIB);
    await client.cache(0, 4 * MIB);
    await client.write(Buffer.from("x"), 4 * MIB - 1, { fua: true });
    model[4 * MIB - 1] = 0x78;
    await client.flush();
    expect(hash(await readAll(client))).toBe(hash(model));
    const hole = new Uint8Array(10).fill(1);
    await client.read(hole, 3 * MIB);
    expect(hole).toEqual(new Uint8Array(10));
    await client.close();
  });
});

test("oldstyle: nbdkit refuses all but reads and writes there, also to others", async (context) => {
  const client = await connect(await nbdkit(context, ["--oldstyle", "memory", "4M"]));
  const data = randomBytes(MIB);
  await client.write(data, MIB);
  const back = await readAll(client);
  expect(hash(back.subarray(MIB, 2 * MIB))).toBe(hash(data));
  expect(back.subarray(2 * MIB).every((byte) => byte === 0)).toBe(true);
});

describe("what one writes the other reads", () => {
  test("a file of nbdkit's holds what was written, and is served as it was", async (context) => {
    const file = join(scratchDirectory(), "disk");
    writeFileSync(file, Buffer.alloc(8 * MIB));
    const peer = await nbdkit(context, ["--filter=delay", "file", file, "wdelay=10ms"]);
    const client = await connect(peer, { connections: 4 });
    const data = randomBytes(8 * MIB);
    const pieces: Promise<void>[] = [];
    for (let offset = 0; offset < data.length; offset += 65536) {
      pieces.push(client.write(data.subarray(offset, offset + 65536), offset));
    }
    await Promise.all(pieces);
    await client.flush();
    expect(client.connections).toBe(4);
    expect(hash(readFileSync(file))).toBe(hash(data));
    expect(hash(await readAll(client))).toBe(hash(data));
    await client.close();
    expect(client.connections).toBe(0);
  });

  test("a request that is longer than the server takes at once goes in pieces", async (context) => {
    const peer = await nbdkit(context, [
      "--filter=blocksize-policy",
      "memory",
      "8M",
      "blocksize-minimum=512",
      "blocksize-maximum=64K",
      "blocksize-error-policy=error",
    ]);
    const client = await connect(peer);
    expect(client.export.blockSize).toEqual({ minimum: 512, preferred: 4096, maximum: 65536 });
    const data = randomBytes(3 * MIB + 512);
    await client.write(data, 512);
    const back = new Uint8Array(data.length);
    await client.read(back, 512);
    expect(hash(back)).toBe(hash(data));
    await client.writeZeroes(0, 8 * MIB);
    await client.cache(0, 8 * MIB);
  });

  test("qcow2 of qemu-nbd, with compressed and unallocated clusters", async (context) => {
    const directory = scratchDirectory();
    const raw = join(directory, "raw");
    const image = join(directory, "a.qcow2");
    const data = Buffer.concat([
      randomBytes(MIB),
      Buffer.alloc(MIB),
      Buffer.alloc(MIB, "text "),
      Buffer.alloc(333 * 512),
    ]);
    writeFileSync(raw, data);
    const peer = await qemuNbd(context, ["-r", image === "" ? "" : convert(raw, image)]);
    const client = await connect(peer);
    expect(hash(await readAll(client))).toBe(hash(data));
    expect(client.features.readOnly).toBe(true);
  });
});

function convert(raw: string, image: string): string {
  run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, image);
  return image;
}

describe("exports", () => {
  test("are known by names of any kind, and listed with what they are", async (context) => {
    const names = ["", "a/b", "hello world", "\u20ac?&#%", "//x"];
    const peer = await nbdkit(context, [
      "--filter=exportname",
      "memory",
      "1M",
      "exportname-list=explicit",
      ...names.map((name) => `exportname=${name}`),
      "exportname-strict=true",
      "exportdesc=fixed:a disk",
    ]);
    for (const name of names) {
      const client = await connect(peer, {}, name);
      expect(client.length).toBe(MIB);
      expect(client.export.description).toBe("a disk");
    }
    const listed = await NbdClient.list(peer.uri());
    expect(listed.map(({ name }) => name)).toEqual(names);
    expect(listed[0]).toMatchObject({ description: "a disk", details: { length: MIB, contexts: ["base:allocation"] } });
    expect(await NbdClient.list(peer.uri("a/b"))).toMatchObject([{ name: "a/b", details: { length: MIB } }]);
    await expect(NbdClient.connect(peer.uri("none"))).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_NBD_/),
    });
  });

  test("one that the server has not is unknown, in the server's words", async (context) => {
    const image = join(scratchDirectory(), "disk");
    writeFileSync(image, Buffer.alloc(MIB));
    const peer = await qemuNbd(context, ["-f", "raw", "-x", "real", image]);
    await expect(NbdClient.connect(peer.uri("none"))).rejects.toMatchObject({
      code: "ERR_NBD_EXPORT_UNKNOWN",
      message: expect.stringContaining("'none' not present"),
    });
    await expect(NbdClient.list(peer.uri("none"))).rejects.toMatchObject({ code: "ERR_NBD_EXPORT_UNKNOWN" });
    expect(await NbdClient.list(peer.uri())).toMatchObject([{ name: "real" }]);
  });

  test("libnbd reads a URI of ours as we do", async (context) => {
    const names = ["a/b", "hello world", "\u20ac?&#%", "//x", "%41"];
    const peer = await nbdkit(context, [
      "--filter=exportname",
      "memory",
      "1M",
      "exportname-list=explicit",
      ...names.map((name) => `exportname=${name}`),
      "exportname-strict=true",
    ]);
    const { formatNbdUri } = await import("@heirloom/nbd");
    for (const exportName of names) {
      const uri = formatNbdUri({ address: { transport: "unix", path: peer.socket }, exportName });
      expect(JSON.parse(run("nbdinfo", "--json", uri)).exports[0]["export-name"]).toBe(exportName);
    }
  });
});

describe("block status", () => {
  test("says what qemu-img map says of a sparse file, in as few extents", async (context) => {
    const file = join(scratchDirectory(), "disk");
    writeFileSync(file, "");
    run("truncate", "-s", "64M", file);
    for (const at of [0, 3, 4, 40, 63])
      run("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=1", `seek=${at}`, "conv=notrunc");
    const peer = await nbdkit(context, ["file", file]);
    const client = await connect(peer);
    const map = JSON.parse(run("qemu-img", "map", "--output=json", "-f", "raw", peer.uri())) as {
      start: number;
      length: number;
      zero: boolean;
    }[];
    const ours = await extentsOf(client, "base:allocation");
    expect(ours.map(({ offset, length, flags }) => ({ start: offset, length, zero: flags === 3 }))).toEqual(
      map.map(({ start, length, zero }) => ({ start, length, zero })),
    );
  });

  test("a million extents come in several answers and are joined over their borders", async (context) => {
    // Every other sector is data: more than fit into one answer.
    const peer = await nbdkit(context, [
      "eval",
      "get_size=echo 64M",
      "pread=head -c $3 /dev/zero",
      "can_extents=exit 0",
      'extents=awk -v n=$3 -v o=$4 \'BEGIN { for (at = o; at < o + n; at += 512) print at, 512, (int(at / 512) % 2) ? "hole" : "" }\'',
    ]);
    const client = await connect(peer);
    const extents = await extentsOf(client, "base:allocation");
    expect(extents.length).toBe(131_072);
    expect(
      extents.every(
        ({ offset, length, flags }, index) => offset === index * 512 && length === 512 && flags === index % 2,
      ),
    ).toBe(true);
    const one = await client.statusOf(512, 10_000, { one: true });
    expect(one.get("base:allocation")).toEqual([{ offset: 512, length: 512, flags: 1 }]);
  });

  test("a server without extents says data, and one without structured replies says nothing", async (context) => {
    const peer = await nbdkit(context, ["--filter=noextents", "memory", "1M"]);
    const client = await connect(peer);
    expect(await extentsOf(client, "base:allocation")).toEqual([{ offset: 0, length: MIB, flags: 0 }]);
    const simple = await connect(await nbdkit(context, ["--no-sr", "memory", "1M"]));
    await expect(extentsOf(simple, "base:allocation")).rejects.toMatchObject({ code: "ERR_NBD_UNSUPPORTED" });
  });

  test("a dirty bitmap of QEMU's is what qemu-img says that it is", async (context) => {
    const image = join(scratchDirectory(), "a.qcow2");
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "32M");
    run("qemu-img", "bitmap", "--add", "-g", "64k", image, "b");
    run("qemu-io", "-c", "write 1M 64k", "-c", "write 5M 130k", "-c", "write -z 20M 1M", image);
    const peer = await qemuNbd(context, ["-r", "-B", "b", image]);
    const client = await connect(peer, {
      contexts: ["qemu:dirty-bitmap:b", "base:allocation", "qemu:dirty-bitmap:none"],
    });
    expect(client.contexts).toEqual(["base:allocation", "qemu:dirty-bitmap:b"]);
    const dirty = (await extentsOf(client, "qemu:dirty-bitmap:b")).filter(({ flags }) => flags === 1);
    expect(dirty).toEqual([
      { offset: MIB, length: 65536, flags: 1 },
      { offset: 5 * MIB, length: 3 * 65536, flags: 1 },
      { offset: 20 * MIB, length: MIB, flags: 1 },
    ]);
    await expect(extentsOf(client, "qemu:dirty-bitmap:none")).rejects.toMatchObject({ code: "ERR_NBD_REQUEST" });
  });
});

describe("errors and delays that the server makes", () => {
  test("an error has its errno, and other requests go on", async (context) => {
    const trigger = join(scratchDirectory(), "trigger");
    const peer = await nbdkit(context, [
      "--filter=error",
      "memory",
      "1M",
      "error-pread=ENOSPC",
      "error-pread-rate=1",
      `error-file=${trigger}`,
    ]);
    const client = await connect(peer);
    await client.write(Buffer.from("abc"), 0);
    writeFileSync(trigger, "");
    await expect(client.read(new Uint8Array(3), 0)).rejects.toMatchObject({ code: "ERR_NBD_IO", errno: 28, offset: 0 });
    run("rm", trigger);
    const back = Buffer.alloc(3);
    await client.read(back, 0);
    expect(String(back)).toBe("abc");
  });

  test("requests are on their way together: 32 that take 100 ms each take much less than 3.2 s", async (context) => {
    const peer = await nbdkit(context, ["-t", "64", "--filter=delay", "memory", "1M", "rdelay=100ms"]);
    const client = await connect(peer, { requestsInFlightMax: 32 });
    const begun = performance.now();
    await Promise.all(Array.from({ length: 32 }, (_, index) => client.read(new Uint8Array(512), index * 512)));
    expect(performance.now() - begun).toBeLessThan(1600);
  });

  test("a server that hangs is left after the time without a moving byte", async (context) => {
    const control = join(scratchDirectory(), "control");
    const peer = await nbdkit(context, ["--filter=pause", "memory", "1M", `pause-control=${control}`]);
    const client = await connect(peer, { requestTimeoutMs: 200 });
    await client.read(new Uint8Array(512), 0);
    run(
      "python3",
      "-c",
      `
import socket
s = socket.socket(socket.AF_UNIX); s.connect("${control}"); s.send(b"p"); assert s.recv(1) == b"P"`,
    );
    await expect(client.read(new Uint8Array(512), 0)).rejects.toMatchObject({ code: "ERR_NBD_TIMEOUT" });
  });

  test("an aborted read of a server that hangs rejects at once, and the buffer stays as it is", async (context) => {
    const peer = await nbdkit(context, ["--filter=delay", "pattern", "1M", "rdelay=1"]);
    const client = await connect(peer);
    const controller = new AbortController();
    const buffer = new Uint8Array(4096);
    const reading = client.read(buffer, 0, { signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(reading).rejects.toThrow("enough");
    // The answer to the first one comes before this one's.
    await client.read(new Uint8Array(8), 8);
    expect(buffer.every((byte) => byte === 0)).toBe(true);
  });

  test("a server that goes away fails what is on its way, and what comes after it", async (context) => {
    const peer = await nbdkit(context, ["--filter=delay", "memory", "1M", "rdelay=60"]);
    const client = await connect(peer);
    const failing = client.read(new Uint8Array(512), 0).catch((error: unknown) => error);
    await peer.kill();
    expect(await failing).toMatchObject({ code: "ERR_NBD_DISCONNECTED" });
    await expect(client.read(new Uint8Array(512), 0)).rejects.toMatchObject({ code: "ERR_NBD_CONNECT" });
  });

  test("a server that comes back within the delay answers what was asked before", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    writeFileSync(file, randomBytes(MIB));
    const slow = await nbdkit(context, ["--filter=delay", "file", file, "rdelay=60"], join(directory, "sock"));
    const client = await connect(slow, { reconnectDelayMs: 20_000 });
    const buffer = new Uint8Array(MIB);
    const reading = client.read(buffer, 0);
    await slow.kill();
    run("rm", slow.socket);
    await nbdkit(context, ["file", file], slow.socket);
    await reading;
    expect(hash(buffer)).toBe(hash(readFileSync(file)));
    await client.flush();
  });

  test("a flush does not cover what was written before the server went away, unless it is told to believe that", async (context) => {
    const directory = scratchDirectory();
    const file = join(directory, "disk");
    writeFileSync(file, Buffer.alloc(MIB));
    for (const assumeWritesSurvive of [false, true]) {
      const first = await nbdkit(context, ["file", file], join(directory, `sock${assumeWritesSurvive}`));
      const client = await connect(first, { reconnectDelayMs: 20_000, assumeWritesSurvive });
      await client.write(Buffer.from("a"), 0);
      await first.kill();
      run("rm", first.socket);
      await nbdkit(context, ["file", file], first.socket);
      await client.write(Buffer.from("b"), 1);
      if (!assumeWritesSurvive) {
        await expect(client.flush()).rejects.toMatchObject({ code: "ERR_NBD_DISCONNECTED", errno: 5 });
      }
      await client.flush();
    }
  });

  test("a server that comes back with another disk is not believed", async (context) => {
    const directory = scratchDirectory();
    const first = await nbdkit(context, ["memory", "1M"], join(directory, "sock"));
    const client = await connect(first, { reconnectDelayMs: 20_000 });
    await client.read(new Uint8Array(512), 0);
    await first.kill();
    run("rm", first.socket);
    await nbdkit(context, ["memory", "2M"], first.socket);
    await expect(client.read(new Uint8Array(512), 0)).rejects.toMatchObject({ code: "ERR_NBD_CHANGED" });
  });
});

describe("what the client refuses to send", () => {
  test.for<[string, (client: NbdClient) => Promise<unknown>, string]>([
    ["a read past the end", (client) => client.read(new Uint8Array(512), MIB - 511), "ERR_NBD_REQUEST"],
    ["a write past the end", (client) => client.write(new Uint8Array(1), MIB), "ERR_NBD_REQUEST"],
    ["a negative offset", (client) => client.read(new Uint8Array(1), -1), "ERR_NBD_REQUEST"],
    ["half an offset", (client) => client.trim(0.5, 1), "ERR_NBD_REQUEST"],
    ["zeroes past 2^53", (client) => client.writeZeroes(0, 2 ** 60), "ERR_NBD_REQUEST"],
    ["block status past the end", (client) => client.statusOf(0, MIB + 1), "ERR_NBD_REQUEST"],
  ])("%s", async ([_what, request, code], context) => {
    const peer = await nbdkit(context, ["memory", "1M"]);
    const client = await connect(peer);
    await expect(request(client)).rejects.toMatchObject({ code });
    // Nothing was sent that the server would have minded.
    await client.read(new Uint8Array(512), 0);
  });

  test("changes of an export that is read-only", async (context) => {
    const client = await connect(await nbdkit(context, ["-r", "memory", "1M"]));
    const refused = { code: "ERR_NBD_REQUEST", errno: 1 };
    await expect(client.write(new Uint8Array(1), 0)).rejects.toMatchObject(refused);
    await expect(client.writeZeroes(0, 1)).rejects.toMatchObject(refused);
    await expect(client.trim(0, 1)).rejects.toMatchObject(refused);
  });

  test("what is no multiple of the minimum block size", async (context) => {
    const peer = await nbdkit(context, ["--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=4096"]);
    const client = await connect(peer);
    await expect(client.read(new Uint8Array(4096), 512)).rejects.toMatchObject({ code: "ERR_NBD_REQUEST" });
    await expect(client.write(new Uint8Array(512), 0)).rejects.toMatchObject({ code: "ERR_NBD_REQUEST" });
  });

  test("what the server does not offer", async (context) => {
    const client = await connect(
      await nbdkit(context, [
        ...["--filter=nozero", "--filter=nocache", "memory", "1M", "zeromode=none", "cachemode=none"],
      ]),
    );
    await expect(client.cache(0, 1)).rejects.toMatchObject({ code: "ERR_NBD_UNSUPPORTED" });
    await expect(client.writeZeroes(0, 1)).rejects.toMatchObject({ code: "ERR_NBD_UNSUPPORTED" });
  });

  test("anything after it was closed", async (context) => {
    const client = await connect(await nbdkit(context, ["memory", "1M"]));
    const reading = client.read(new Uint8Array(512), 0);
    const closing = client.close();
    await expect(client.read(new Uint8Array(512), 0)).rejects.toMatchObject({ code: "ERR_NBD_CLOSED" });
    await reading;
    await closing;
    await client.close();
  });

  test("options that make no sense", async () => {
    const uri = "nbd+unix:///?socket=/nowhere";
    for (const options of [
      { connections: 0 },
      { requestsInFlightMax: 1.5 },
      { connectTimeoutMs: 0 },
      { reconnectDelayMs: -1 },
    ]) {
      await expect(NbdClient.connect(uri, options)).rejects.toMatchObject({ code: "ERR_NBD_OPTION" });
    }
    await expect(NbdClient.connect(uri)).rejects.toMatchObject({ code: "ERR_NBD_CONNECT", errno: 2 });
  });
});
