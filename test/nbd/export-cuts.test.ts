/**
 * Connections that break after each byte of a request and of a reply, while backups of the same disk run: each restored point
 * is the disk at its freeze (I2), what the bitmap calls clean has not changed since (I1), what was acknowledged is there, and
 * what did not come whole is not.
 */
import { readFileSync } from "node:fs";
import type { Disk, DiskExport } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { cmd, type Form, RawNbd } from "../../packages/nbd/testing/raw-client.ts";
import {
  ended,
  firstDifference,
  granulesOf,
  inScene,
  MiB,
  pattern,
  type Scene,
} from "../../packages/runtime/src/scene.fixture.ts";

const length = 4 * MiB;
const granularity = 4096;
const sector = 512;
const forms: readonly Form[] = ["simple", "structured", "extended"];

/** The disk at the last freeze, and what the bitmap says has changed since. */
interface Checkpoint {
  readonly shadow: Buffer;
  readonly points: number;
}

/** Full, then incrementals one after the other, until `goesOn` says no; and one more. Each is restored and compared. */
async function backUp(scene: Scene, disk: Disk, frozen: () => Buffer, goesOn: () => boolean): Promise<Checkpoint> {
  let checkpoint: Buffer | undefined;
  let shadow = Buffer.alloc(0);
  let points = 0;
  for (let last = false; !last; points++) {
    last = !goesOn();
    const target = scene.target(length);
    let copied: ReadonlyArray<{ readonly offset: number; readonly length: number }> = [];
    const job = await scene.runtime.backup({
      disk,
      target,
      bitmap: "daily",
      bitmapMode: "on-success",
      sync: checkpoint === undefined ? "full" : "incremental",
      onCopied: async (backup) => {
        copied = await backup.extents();
      },
    });
    shadow = Buffer.from(frozen());
    expect(await ended(job)).toEqual({ status: "completed", error: null });
    const image = readFileSync(target.filename);
    const restored = checkpoint ?? Buffer.from(image);
    for (const { offset, length: size } of copied) image.copy(restored, offset, offset, offset + size);
    expect(firstDifference(restored, shadow), `restored point ${points}`).toBe(-1);
    checkpoint = restored;
  }
  return { shadow, points };
}

/** What one connection asks: changes of sectors of its own. */
interface Asked {
  readonly bytes: Buffer;
  readonly write: { readonly sector: number; readonly end: number; acknowledged: boolean };
  readonly zeroes: { readonly sector: number; readonly end: number; acknowledged: boolean };
}

function ask(client: RawNbd, first: number, seed: number): Asked {
  const write = client.prepare(cmd.write, { offset: first * sector, payload: pattern(sector, seed) });
  const zeroes = client.prepare(cmd.zeroes, { offset: (first + 1) * sector, length: sector });
  const read = client.prepare(cmd.read, { offset: (first + 2) * sector, length: sector });
  const asked = {
    bytes: Buffer.concat([write.bytes, zeroes.bytes, read.bytes]),
    write: { sector: first, end: write.bytes.length, acknowledged: false },
    zeroes: { sector: first + 1, end: write.bytes.length + zeroes.bytes.length, acknowledged: false },
  };
  void write.answer.then(({ error }) => (asked.write.acknowledged = error === 0)).catch(() => undefined);
  void zeroes.answer.then(({ error }) => (asked.zeroes.acknowledged = error === 0)).catch(() => undefined);
  return asked;
}

/** A connection of which the server gets `sent` bytes; or one that is cut when the client has got `received`. */
async function cut(
  path: string,
  form: Form,
  first: number,
  at: { sent: number } | { received: number },
): Promise<Asked> {
  const client = await RawNbd.open(path, "a", form);
  const asked = ask(client, first, first);
  if ("sent" in at) {
    await new Promise<void>((resolve) => {
      client.socket.write(asked.bytes.subarray(0, at.sent), () => resolve());
      if (at.sent === 0) resolve();
    });
  } else {
    let got = 0;
    const enough = new Promise<void>((resolve) => {
      client.socket.on("data", (bytes: Buffer) => {
        got += bytes.length;
        if (got >= at.received) resolve();
      });
    });
    client.raw(asked.bytes);
    await Promise.race([enough, client.closed]);
  }
  client.socket.destroy();
  await client.closed;
  return asked;
}

async function cutEverywhere(exported: DiskExport, path: string): Promise<{ asked: Asked; sent: number }[]> {
  const done: { asked: Asked; sent: number }[] = [];
  let first = 0;
  for (const form of forms) {
    const header = form === "extended" ? 32 : 28;
    const requests = 3 * header + sector;
    // The middle of a payload is like any other place in it.
    const inPayload = (at: number): boolean => at > header + 20 && at < header + sector - 20 && at % 16 !== 0;
    for (let sent = 0; sent <= requests; sent++) {
      if (inPayload(sent)) continue;
      done.push({ asked: await cut(path, form, first, { sent }), sent });
      first += 4;
    }
    const replies = form === "extended" ? 32 + 32 + 40 : form === "structured" ? 16 + 16 + 28 : 48;
    for (let received = 1; received <= replies; received += 3) {
      done.push({ asked: await cut(path, form, first, { received }), sent: requests });
      first += 4;
    }
  }
  // Replies that no socket takes whole: the server is in the middle of one, or of a long write.
  for (let piece = 0; piece < 40; piece++) {
    const client = await RawNbd.open(path, "a", forms[piece % 3]);
    client.socket.pause();
    for (let index = 0; index < 4; index++) void client.read(0, 2 * MiB);
    const { bytes } = client.prepare(cmd.write, { offset: 3 * MiB, payload: pattern(MiB, piece) });
    client.raw(bytes.subarray(0, 28 + piece * 26_000));
    if (piece % 2 === 0) client.socket.resume();
    for (let turn = 0; turn < piece % 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    client.socket.destroy();
    await client.closed;
  }
  expect(exported.clients).toBeLessThanOrEqual(50);
  return done;
}

for (const how of ["its session's thread", "helpers"] as const) {
  test(`a disk that is written by ${how}`, { timeout: 120_000 }, () => {
    let image = "";
    let frozen: Buffer = Buffer.alloc(0);
    return inScene(
      async (scene) => {
        const rules = [{ kind: "any", armed: false, action: { error: "EIO" } }] as const;
        const disk = how === "helpers" ? await scene.faulty("a", length, rules, 1) : await scene.disk("a", length, 1);
        image = scene.path("a.raw");
        await disk.bitmaps.add("daily", { granularity });
        const path = scene.path("nbd.sock");
        const server = await scene.runtime.serveNbd({ listen: [{ path }] });
        const exported = await server.add({ disk, writable: true });
        let cutting = true;
        const backups = backUp(
          scene,
          disk,
          () => frozen,
          () => cutting,
        );
        const all = await cutEverywhere(exported, path).finally(() => (cutting = false));
        const { points } = await backups;
        expect(points).toBeGreaterThan(2);
        await scene.until(() => exported.clients === 0);
        const before = pattern(length, 1);
        const now = readFileSync(image);
        const sectorOf = (bytes: Uint8Array, at: number): Uint8Array => bytes.subarray(at * sector, (at + 1) * sector);
        for (const { asked, sent } of all) {
          for (const [one, after] of [
            [asked.write, pattern(sector, asked.write.sector)],
            [asked.zeroes, new Uint8Array(sector)],
          ] as const) {
            const found = sectorOf(now, one.sector);
            const isOld = firstDifference(found, sectorOf(before, one.sector)) === -1;
            const isNew = firstDifference(found, after) === -1;
            if (one.acknowledged) expect(isNew, `sector ${one.sector}, acknowledged`).toBe(true);
            else if (sent < one.end) expect(isOld, `sector ${one.sector}, of which ${sent} bytes were sent`).toBe(true);
            else expect(isOld || isNew, `sector ${one.sector}, torn`).toBe(true);
          }
        }
        await exported.remove();
        const dirty = new Set(granulesOf(disk, "daily"));
        for (let granule = 0; granule * granularity < length; granule++) {
          if (dirty.has(granule)) continue;
          const range = [granule * granularity, (granule + 1) * granularity] as const;
          const at = firstDifference(now.subarray(...range), frozen.subarray(...range));
          expect(at, `granule ${granule} is clean`).toBe(-1);
        }
      },
      { observeFreeze: () => (frozen = readFileSync(image)) },
    );
  });
}
