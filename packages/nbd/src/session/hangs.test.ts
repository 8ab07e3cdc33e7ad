/** Devices that are slow, or hang: they cost their own disk's clients, and nobody else anything. */
import { execFileSync } from "node:child_process";
import { disarmFault, faultReached, releaseHang } from "@heirloom/block";
import { expect, test } from "vitest";
import { needTool } from "../tool.fixture.ts";
import { bytesOf, cmd, flag } from "../../testing/raw-client.ts";
import { expectSame, KiB, MiB, pattern, Served } from "./served.fixture.ts";

const hangs = [{ kind: "any", action: { hang: true } }] as const;

test("disks whose devices hang leave helpers and memory to the others", async () => {
  const served = await Served.open({ helpersMax: 6, payloadMemory: 34 * MiB });
  const image = pattern(2 * MiB, 1);
  const slow = [{ kind: "read", armed: false, action: { error: "EIO" } }] as const;
  const client = await served.client(served.show(await served.disk("live", image, slow)));
  const file = await served.client(served.show(await served.disk("file", image)));
  const hung = [];
  for (let index = 0; index < 3; index++) {
    const disk = await served.disk(`hung${index}`, 8 * MiB, hangs);
    hung.push(disk);
    const name = served.show(disk);
    for (let connection = 0; connection < 6; connection++) {
      const stuck = await served.client(name);
      for (let request = 0; request < 16; request++) void stuck.write(request * 4096, Buffer.alloc(256 * KiB));
    }
    await faultReached(disk.handle, 0);
  }
  for (let round = 0; round < 10; round++) {
    expectSame(bytesOf(await client.read(0, 2 * MiB)), image, "a disk that helpers read");
    expect(await client.write(0, image.subarray(0, 300 * KiB), flag.fua)).toMatchObject({ error: 0 });
    expect(await file.call(cmd.flush)).toMatchObject({ error: 0 });
  }
  for (const { name } of hung) void served.server.remove(name, { hard: true });
  expect(await client.call(cmd.flush)).toMatchObject({ error: 0 });
  for (const { handle } of hung) {
    disarmFault(handle, 0);
    releaseHang(handle);
  }
});

test("an export is removed while helpers that have served it hang in another one's device", async () => {
  const served = await Served.open({ helpersMax: 2 });
  const hung = await served.disk("hung", MiB, [{ kind: "write", action: { hang: true } }]);
  const live = await served.disk("live", MiB);
  const [stuck, client] = [await served.client(served.show(hung)), await served.client(served.show(live))];
  await Promise.all(Array.from({ length: 8 }, () => client.call(cmd.flush)));
  for (let request = 0; request < 16; request++) void stuck.write(0, Buffer.alloc(512));
  await faultReached(hung.handle, 0, 2);
  client.socket.destroy();
  await served.server.remove("live");
  await served.server.remove(served.show(live));
  disarmFault(hung.handle, 0);
  releaseHang(hung.handle);
});

test("a hard removal cuts clients off at once, and is over when the device lets go", async () => {
  const served = await Served.open();
  const disk = await served.disk("a", MiB, [{ kind: "write", action: { hang: true } }]);
  const name = served.show(disk);
  const client = await served.client(name);
  const writes = Array.from({ length: 30 }, (_, index) => client.write(index * 512, Buffer.alloc(512, 1)));
  await faultReached(disk.handle, 0);
  let over = false;
  const removed = served.server.remove(name, { hard: true }).then(() => (over = true));
  await client.closed;
  for (const write of writes) await expect(write).rejects.toThrow("closed before the reply");
  expect(over).toBe(false);
  await expect(served.client(name)).rejects.toThrow("go: reply 80000006");
  disarmFault(disk.handle, 0);
  releaseHang(disk.handle);
  await removed;
  served.show(disk);
  const again = await served.client(name);
  expect(await again.write(0, Buffer.alloc(512, 2))).toMatchObject({ error: 0 });
});

test("a soft removal answers what is in flight, and takes nothing more", async () => {
  const served = await Served.open();
  const image = pattern(2 * MiB, 2);
  for (const rules of [undefined, [{ kind: "read", action: { delayMs: 20 } }] as const]) {
    const disk = await served.disk(rules === undefined ? "a" : "b", image, rules);
    const name = served.show(disk);
    const client = await served.client(name);
    const reads = Array.from({ length: 8 }, (_, index) => client.read(index * 4096, 4096));
    if (rules !== undefined) await faultReached(disk.handle, 0, 2);
    else await reads[0];
    await served.server.remove(name);
    await client.closed;
    for (const [index, read] of reads.entries()) {
      const answer = await read.catch(() => undefined);
      if (index === 0) expect(answer).toBeDefined();
      if (answer !== undefined)
        expectSame(bytesOf(answer), image.subarray(index * 4096, index * 4096 + 4096), "a read");
    }
  }
});

test("a server stops hard, and is over when the device lets go; stopped once more it is no different", async () => {
  const served = await Served.open();
  const disk = await served.disk("a", MiB, hangs);
  const client = await served.client(served.show(disk));
  void client.read(0, 512);
  await faultReached(disk.handle, 0);
  const soft = served.server.stop();
  const hard = served.server.stop({ hard: true });
  await client.closed;
  await expect(served.client("a")).rejects.toThrow();
  disarmFault(disk.handle, 0);
  releaseHang(disk.handle);
  await Promise.all([soft, hard]);
  expect(served.server.threads).toBe(0);
  await served.server.stop();
});

test("what a lost connection had asked and nobody had begun is not done over what came later", async () => {
  const served = await Served.open({ helpersMax: 2 });
  const disk = await served.disk("a", MiB, [{ kind: "write", offset: 0, length: 512, action: { hang: true } }]);
  const name = served.show(disk);
  const lost = await served.client(name);
  for (let index = 0; index < 2; index++) void lost.write(0, Buffer.alloc(512, 1));
  await faultReached(disk.handle, 0, 2);
  for (let index = 0; index < 10; index++) void lost.write(4096, Buffer.alloc(512, 0xaa));
  // The other one's request is behind those, on the same thread or not: they have come when it is parked.
  const client = await served.client(name);
  const late = client.write(8192, Buffer.alloc(512, 0xbb));
  await new Promise((resolve) => setImmediate(resolve));
  lost.socket.destroy();
  await served.until(() => served.server.clientsOf(name) === 1);
  disarmFault(disk.handle, 0);
  releaseHang(disk.handle);
  expect(await late).toMatchObject({ error: 0 });
  expect(await client.call(cmd.flush)).toMatchObject({ error: 0 });
  expect(
    served
      .bytes(disk)
      .subarray(4096, 4608)
      .every((byte) => byte === 0),
  ).toBe(true);
});

test("reads of cold data do not stand in the way of others, on the same connection or another", async () => {
  const served = await Served.open();
  const image = pattern(2 * MiB, 3);
  const disk = await served.disk("a", image, [{ kind: "read", offset: MiB, length: MiB, action: { hang: true } }]);
  const name = served.show(disk);
  const [client, other] = [await served.client(name), await served.client(name)];
  const cold = Array.from({ length: 8 }, (_, index) => client.read(MiB + index * 4096, 4096));
  await faultReached(disk.handle, 0, 8);
  for (let index = 0; index < 50; index++) {
    for (const one of [client, other]) {
      expectSame(
        bytesOf(await one.read(index * 512, 512)),
        image.subarray(index * 512, index * 512 + 512),
        "a hot read",
      );
    }
  }
  disarmFault(disk.handle, 0);
  releaseHang(disk.handle);
  for (const [index, answer] of (await Promise.all(cold)).entries()) {
    expectSame(bytesOf(answer), image.subarray(MiB + index * 4096, MiB + index * 4096 + 4096), "a cold read");
  }
});

test("data that the page cache has lost are read all the same", async (context) => {
  needTool(context, "python3");
  const served = await Served.open({}, "disk");
  const image = pattern(8 * MiB, 4);
  const disk = await served.disk("a", image);
  const forget = (): void => {
    const program =
      "import os,sys; f=os.open(sys.argv[1],os.O_RDONLY); os.fsync(f); os.posix_fadvise(f,0,0,os.POSIX_FADV_DONTNEED)";
    execFileSync("python3", ["-c", program, disk.file]);
  };
  const name = served.show(disk);
  for (const form of ["simple", "structured", "extended"] as const) {
    const client = await served.client(name, form);
    forget();
    const reads = Array.from({ length: 64 }, (_, index) => ({
      offset: index * 100_003,
      read: client.read(index * 100_003, 4096 + index),
    }));
    for (const [index, { offset, read }] of reads.entries()) {
      expectSame(bytesOf(await read), image.subarray(offset, offset + 4096 + index), `read ${index}`);
    }
    forget();
    expectSame(bytesOf(await client.read(1, 8 * MiB - 1)), image.subarray(1), "a long read");
  }
});
