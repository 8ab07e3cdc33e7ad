/** Threads that die in any line: whoever had nothing to do with it goes on, and nothing is left behind. */
import { readdirSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bytesOf, cmd, code, flag } from "../../testing/raw-client.ts";
import { expectSame, KiB, MiB, pattern, Served } from "./served.fixture.ts";

/** A driver over memory whose verbs answer at once, and which ends its thread where a write says so. */
function deadlyDriver(served: Served): string {
  const url = `file://${served.directory}/deadly.mjs`;
  writeFileSync(
    `${served.directory}/deadly.mjs`,
    `export const driver = {
       open: (options, context) => {
         const child = context.open({ driver: "memory", size: 4194304 });
         return { ...child, driver: "${url}", state: { throws: options.throws }, children: [child] };
       },
       connect: (handle, context) => {
         const child = context.connect(handle.children[0]);
         const node = Object.create(child);
         for (const verb of ["length", "read", "discard", "writeZeroes", "flush", "status", "resize", "admit"]) {
           node[verb] = (...args) => child[verb](...args);
         }
         node.readNow = handle.state.throws === undefined ? (buffer, offset) => child.read(buffer, offset) : undefined;
         node.writeZeroesFast = undefined;
         node.zeroesFrom = undefined;
         node.write = (buffer, offset) => {
           if (buffer[0] === 0xdd) handle.state.throws === undefined ? process.exit(1) : fail(handle.state.throws);
           return child.write(buffer, offset);
         };
         return node;
       },
       close: (handle, context) => context.close(handle.children[0]),
     };
     function fail(text) { throw new Error(text); }`,
  );
  return url;
}

const deadly = Buffer.alloc(512, 0xdd);

test("a session thread dies: its clients are cut off, other disks' clients go on, and the next client gets a new thread", async () => {
  const served = await Served.open();
  const driver = deadlyDriver(served);
  const doomed = served.show(await served.attach("doomed", { driver }));
  const image = pattern(MiB, 1);
  const other = await served.client(served.show(await served.disk("other", image)));
  let before = 0;
  for (let death = 0; death < 6; death++) {
    const clients = [await served.client(doomed), await served.client(doomed)];
    for (const client of clients) {
      expect(await client.write(4096, pattern(4096, death))).toMatchObject({ error: 0 });
      // What waits for others then: a flush at a helper, half a write, a reply that nobody reads.
      void client.call(cmd.flush);
      client.socket.pause();
      for (let index = 0; index < 40; index++) void client.read(0, 256 * KiB);
      // Far from what is looked at below: pages of a long write that is cut off may be there.
      client.raw(client.prepare(cmd.write, { offset: MiB, payload: Buffer.alloc(300 * KiB) }).bytes.subarray(0, 9000));
      client.socket.resume();
    }
    const killer = await served.client(doomed);
    await expect(killer.write(0, deadly)).rejects.toThrow("closed before the reply");
    await Promise.all([...clients, killer].map((client) => client.closed));
    expectSame(bytesOf(await other.read(0, MiB)), image, "another disk");
    expect(served.server.clientsOf(doomed)).toBe(0);
    const again = await served.client(doomed);
    expectSame(bytesOf(await again.read(4096, 4096)), pattern(4096, death), "what was written before");
    again.socket.destroy();
    await served.until(() => served.server.clientsOf(doomed) === 0);
    const descriptors = readdirSync("/proc/self/fd").length;
    if (death === 1) before = descriptors;
    if (death > 1) expect(descriptors, "descriptors").toBeLessThanOrEqual(before);
  }
  expect(served.events.filter((event) => event.type === "disconnected" && event.requests === undefined).length).toBe(
    18,
  );
  await served.server.remove(doomed, { hard: true });
});

test("payload memory of a thread that died is there for the others", async () => {
  const served = await Served.open({ payloadMemory: 34 * MiB });
  const driver = deadlyDriver(served);
  const doomed = served.show(await served.attach("doomed", { driver }));
  const image = pattern(32 * MiB, 2);
  const other = await served.client(served.show(await served.disk("other", image)), "simple");
  const deaf = await served.client(doomed, "simple");
  deaf.socket.pause();
  void deaf.read(0, 4 * MiB);
  const killer = await served.client(doomed);
  for (let index = 0; index < 20; index++) await killer.read(0, 512); // the deaf one's read has come by now
  await expect(killer.write(0, deadly)).rejects.toThrow();
  expectSame(bytesOf(await other.read(0, 32 * MiB)), image, "a reply that needs nearly all of it");
});

test("a helper dies: its request fails with EIO, others are served", async () => {
  const served = await Served.open();
  const image = pattern(2 * MiB, 3);
  const rules = [
    { kind: "write", offset: 0, length: 512, action: { exit: true } },
    { kind: "read", offset: MiB, length: 512, action: { exit: true } },
  ] as const;
  const disk = await served.disk("a", image, rules);
  const name = served.show(disk);
  const [client, other] = [await served.client(name), await served.client(name)];
  for (let round = 0; round < 3; round++) {
    const deaths = [client.write(0, Buffer.alloc(512), flag.fua), client.read(MiB, 4096)];
    const others = Array.from({ length: 20 }, (_, index) => other.read(4096 * (index + 1), 4096));
    for (const death of deaths) expect(await death).toMatchObject({ error: code.io });
    for (const [index, answer] of (await Promise.all(others)).entries()) {
      expectSame(bytesOf(answer), image.subarray(4096 * (index + 1), 4096 * (index + 2)), "another read");
    }
  }
  // A long read of which one piece is lost fails as a whole.
  expect(await client.read(0, 2 * MiB)).toMatchObject({ error: code.io });
  await served.server.remove(name);
});

test("a driver that throws has failed: EIO, and the connection goes on", async () => {
  const served = await Served.open();
  const disk = await served.attach("a", { driver: deadlyDriver(served), throws: "out of luck" });
  const client = await served.client(served.show(disk));
  expect(await client.write(0, deadly)).toMatchObject({ error: code.io });
  expect(await client.write(0, pattern(512, 1))).toMatchObject({ error: 0 });
  expectSame(bytesOf(await client.read(0, 512)), pattern(512, 1), "what was written");
});
