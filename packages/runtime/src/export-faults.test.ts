/** What goes wrong under an export: full spills, throttles, threads that die, removals at any moment. */
import { readdirSync, writeFileSync } from "node:fs";
import { faultReached, releaseHang, disarmFault } from "@heirloom/block";
import { NbdClient } from "@heirloom/nbd";
import { expect, test } from "vitest";
import {
  cluster,
  ended,
  firstDifference,
  granulesOf,
  inScene,
  MiB,
  pattern,
  refusalOf,
  type Scene,
} from "./scene.fixture.ts";

const length = 4 * MiB;
const hangs = [{ kind: "write", nth: 2, always: true, action: { hang: true } }] as const;

test("a full spill delays a client's write by no more than it may, and then the backup gives way", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 1);
    await disk.bitmaps.add("daily", { granularity: cluster });
    const server = await scene.runtime.serveNbd({ listen: [{ path: scene.path("nbd.sock") }] });
    const exported = await server.add({ disk, writable: true });
    await using client = await NbdClient.connect(exported.uris[0]);
    await using reader = await NbdClient.connect(exported.uris[0]);
    const target = await scene.faulty("t", length, hangs);
    const spill = { memory: 8 * cluster, file: 0 };
    const job = await scene.runtime.backup({
      disk,
      target,
      bitmap: "daily",
      bitmapMode: "on-success",
      sync: "full",
      maxChunk: cluster,
      spill,
      guestDelayMax: 1000,
    });
    await faultReached(target.node, 0);
    const delays: number[] = [];
    const reads: number[] = [];
    for (let offset = 0; offset < length; offset += cluster) {
      const from = performance.now();
      const written = client.write(new Uint8Array(cluster).fill(1), offset).then(() => performance.now());
      // While it waits, others on the same thread do not.
      const read = reader.read(new Uint8Array(512), 0).then(() => performance.now());
      reads.push((await read) - from);
      delays.push((await written) - from);
    }
    const delayed = delays.filter((delay) => delay > 990);
    expect(delayed.length, `of ${delays.map(Math.round).join(" ")} ms`).toBe(1);
    expect(Math.max(...delays)).toBeLessThan(3000);
    const whileDelayed = reads[delays.indexOf(delayed[0])];
    expect(whileDelayed, "a read while the write waits, ms").toBeLessThan(900);
    disarmFault(target.node, 0);
    releaseHang(target.node);
    expect((await ended(job)).status).toBe("failed");
    expect(granulesOf(disk, "daily")).toEqual(Array.from({ length: length / cluster }, (_, granule) => granule));
  }));

test("where the guest is to give way, its write fails after that time and the connection goes on", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 2);
    const frozen = scene.bytes("a.raw");
    const server = await scene.runtime.serveNbd({ listen: [{ path: scene.path("nbd.sock") }] });
    const exported = await server.add({ disk, writable: true });
    await using client = await NbdClient.connect(exported.uris[0]);
    const target = await scene.faulty("t", length, hangs);
    const job = await scene.runtime.backup({
      disk,
      target,
      maxChunk: cluster,
      spill: { memory: 4 * cluster, file: 0 },
      guestDelayMax: 10,
      onSpillFull: "break-guest-write",
    });
    await faultReached(target.node, 0);
    const answers: string[] = [];
    for (let index = 8; index < 24; index++) {
      answers.push((await refusalOf(() => client.write(new Uint8Array(cluster).fill(1), index * cluster))).code);
    }
    expect(answers[0]).toBe("none");
    expect(answers.at(-1)).toBe("ERR_NBD_IO");
    disarmFault(target.node, 0);
    releaseHang(target.node);
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    expect(firstDifference(scene.bytes("t.raw"), frozen)).toBe(-1);
    await client.flush();
  }));

test("a throttled disk paces its clients, charges each request once, and holds up nobody else", () =>
  inScene(async (scene) => {
    const image = scene.image("slow.raw", length, 3);
    const limits = { requestsPerSecond: 100, burstRequests: 10 };
    const slow = await scene.runtime.attach({ driver: "throttle", file: image, ...limits }, { name: "slow" });
    const fast = await scene.disk("fast", length, 4);
    const server = await scene.runtime.serveNbd({ listen: [{ path: scene.path("nbd.sock") }], threadsMax: 1 });
    await using client = await NbdClient.connect((await server.add({ disk: slow, writable: true })).uris[0]);
    await using other = await NbdClient.connect((await server.add({ disk: fast, writable: true })).uris[0]);
    // 110 requests, of which a burst of 10 is free: a second; twice that if each were charged twice.
    const buffer = new Uint8Array(512);
    const pace = async (to: Pick<NbdClient, "read" | "write">): Promise<number> => {
      const from = performance.now();
      const all = Array.from({ length: 110 }, (_, index) =>
        index % 2 === 0 ? to.read(new Uint8Array(512), index * 512) : to.write(buffer, index * 512),
      );
      await Promise.all(all);
      return performance.now() - from;
    };
    await pace(client); // threads have started
    const paced = pace(client);
    const from = performance.now();
    for (let index = 0; index < 20; index++) await other.read(buffer, index * 512);
    const others = performance.now() - from;
    const took = await paced;
    expect(others, "20 reads of another disk, ms").toBeLessThan(took);
    expect(took).toBeGreaterThan(900);
    expect(took / (await pace(slow)), "against a guest that is not a client").toBeLessThan(1.7);
  }));

/** Memory whose verbs answer at once, and which ends its thread where a write says so. */
function deadlyDriver(scene: Scene): string {
  const url = `file://${scene.path("deadly.mjs")}`;
  writeFileSync(
    scene.path("deadly.mjs"),
    `export const driver = {
       open: (options, context) => {
         const child = context.open(options.file);
         return { ...child, driver: "${url}", identity: "deadly", state: {}, children: [child] };
       },
       connect: (handle, context) => {
         const child = context.connect(handle.children[0]);
         const node = { direct: undefined };
         for (const verb of ["length", "read", "readNow", "discard", "writeZeroes", "flush", "status", "resize", "admit"]) {
           node[verb] = (...args) => child[verb](...args);
         }
         node.write = (buffer, offset) => (buffer[0] === 0xdd ? process.exit(1) : child.write(buffer, offset));
         return node;
       },
       close: (handle, context) => context.close(handle.children[0]),
     };`,
  );
  return url;
}

test("a thread that serves a disk dies: its backups fail, bitmaps are reclaimed, points in time are given up, clients come back", () =>
  inScene(async (scene) => {
    const file = scene.image("a.raw", length, 5);
    const disk = await scene.runtime.attach({ driver: deadlyDriver(scene), file }, { name: "a" });
    await disk.bitmaps.add("daily", { granularity: cluster });
    await disk.bitmaps.add("shown", { granularity: cluster });
    await disk.write(new Uint8Array(1), 3 * cluster);
    const server = await scene.runtime.serveNbd({ listen: [{ path: scene.path("nbd.sock") }] });
    const exported = await server.add({ disk, writable: true, bitmaps: ["shown"] });
    const client = await NbdClient.connect(exported.uris[0]);
    await client.write(new Uint8Array(1), 9 * cluster);
    const view = disk.view({});
    await view.ready;
    const point = await server.add({ view });
    await using reader = await NbdClient.connect(point.uris[0]);
    await reader.read(new Uint8Array(512), 0);
    const target = scene.target(length);
    const job = await scene.runtime.backup({ disk, target, bitmap: "daily", speed: 1 });
    await client.write(new Uint8Array(1), 20 * cluster);
    expect((await refusalOf(() => client.write(new Uint8Array(512).fill(0xdd), 0))).code).toBe("ERR_NBD_DISCONNECTED");
    expect((await ended(job)).status).toBe("failed");
    await scene.event("THREAD_DIED");
    expect(granulesOf(disk, "daily")).toEqual([0, 3, 9, 20]);
    expect(disk.bitmaps.get("daily").busy).toBe(false);
    expect(disk.bitmaps.get("shown").busy).toBe(true);
    // Where the reader's own thread lives on it is told; where it was the same thread, it was cut off.
    const seen = await refusalOf(() => reader.read(new Uint8Array(512), 0));
    expect(["ERR_NBD_IO", "ERR_NBD_DISCONNECTED"]).toContain(seen.code);
    await scene.until(() => exported.clients === 0);
    await using again = await NbdClient.connect(exported.uris[0]);
    await again.write(pattern(512, 1), 512);
    await view.fail();
    await exported.remove({ force: true });
    expect(disk.bitmaps.get("shown").busy).toBe(false);
    await client.close();
  }));

test("clients that come while their export goes, and threads that start meanwhile, leave nothing behind", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", length, 6);
    await disk.bitmaps.add("daily");
    const server = await scene.runtime.serveNbd({ listen: [{ path: scene.path("nbd.sock") }] });
    let descriptors = 0;
    for (let round = 0; round < 40; round++) {
      const exported = await server.add({ disk, writable: true, bitmaps: ["daily"] });
      const [uri] = exported.uris;
      const clients = Array.from({ length: 4 }, async () => {
        const client = await NbdClient.connect(uri);
        try {
          for (;;) await client.write(new Uint8Array(4096), 0);
        } finally {
          await client.close();
        }
      });
      const settled = Promise.allSettled(clients);
      for (let turn = 0; turn < round; turn++) await new Promise((resolve) => setImmediate(resolve));
      await exported.remove({ force: true });
      expect(disk.bitmaps.get("daily").busy, `round ${round}`).toBe(false);
      await settled;
      await scene.until(() => server.connections === 0);
      if (round === 20) descriptors = readdirSync("/proc/self/fd").length;
    }
    expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(descriptors);
    await disk.detach();
  }));
