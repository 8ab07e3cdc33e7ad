/** Rules of blkdebug at random, and requests of a guest: each fails in both daemons, or in neither. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import { createRuntime } from "@heirloom/runtime";
import { expect, onTestFinished, test } from "vitest";
import { QmpClient } from "./client/qmp-client.ts";
import { needQemu, scratchDirectory, startQemuAt } from "./qemu.fixture.ts";
import { listenOnUnixSocket } from "./server/unix-listener.ts";
import { QmpService } from "./service.ts";
import { seeded } from "./wire/json-corpus.fixture.ts";

const length = 65536;
const sectors = [3, 7];
const events = [
  ...["none", "read_aio", "write_aio", "flush_to_os", "flush_to_disk", "pwritev", "pwritev_zero", "pwritev_done"],
  "l2_load", // never happens
];
const kinds = ["read", "write", "write-zeroes", "discard", "flush"];
const requests = ["write", "write", "write-zeroes", "discard", "flush", "flush", "read"] as const;

type Random = () => number;
const oneOf = <Value>(random: Random, values: readonly Value[]): Value => values[Math.floor(random() * values.length)];

function ruleAt(random: Random): Record<string, unknown> {
  return {
    event: oneOf(random, events),
    ...(random() < 0.5 ? { state: 1 + Math.floor(random() * 2) } : {}),
    ...(random() < 0.7 ? { iotype: oneOf(random, kinds) } : {}),
    ...(random() < 0.5 ? { sector: oneOf(random, sectors) } : {}),
    ...(random() < 0.4 ? { once: true } : {}),
    errno: oneOf(random, [5, 28]),
  };
}

/** On a raw node, whose events come too, or by itself. A daemon reads nothing by itself then: `none` is never spent before. */
function nodeAt(random: Random, filename: string): Record<string, unknown> {
  const some = (most: number): number[] => [...Array(1 + Math.floor(random() * most)).keys()];
  const changes = some(3).map(() => ({
    event: oneOf(random, events),
    ...(random() < 0.6 ? { state: 1 + Math.floor(random() * 2) } : {}),
    new_state: 1 + Math.floor(random() * 2),
  }));
  const blkdebug = {
    driver: "blkdebug",
    discard: "unmap",
    image: { driver: "file", filename, discard: "unmap" },
    "inject-error": some(4).map(() => ruleAt(random)),
    "set-state": changes,
  };
  return random() < 0.5
    ? { ...blkdebug, "node-name": "n" }
    : { driver: "raw", "node-name": "n", discard: "unmap", file: blkdebug };
}

interface Daemon {
  readonly client: QmpClient;
  readonly directory: string;
}

async function startOurs(): Promise<Daemon> {
  const directory = scratchDirectory();
  const runtime = createRuntime();
  const service = new QmpService({ runtime, quit: () => {} });
  const monitor = service.addMonitor();
  const server = await listenOnUnixSocket(join(directory, "qmp"), (socket) => monitor.accept(socket));
  onTestFinished(async () => {
    server.close();
    await runtime.close();
    await service.close();
  });
  return connect(directory);
}

async function connect(directory: string): Promise<Daemon> {
  const client = await QmpClient.connect({ path: join(directory, "qmp") });
  onTestFinished(() => client.close());
  const addr = { type: "unix", data: { path: join(directory, "nbd") } } as const;
  await client.execute("nbd-server-start", { addr });
  return { client, directory };
}

/** What became of each request. */
async function play({ client, directory }: Daemon, random: Random): Promise<string[]> {
  const filename = join(directory, "image");
  writeFileSync(filename, new Uint8Array(length).fill(1));
  const node = nodeAt(random, filename);
  await client.executeAny("blockdev-add", node as never);
  await client.execute("block-export-add", { type: "nbd", id: "n", "node-name": "n", writable: true });
  const outcomes = [JSON.stringify(node).replace(filename, "image")];
  for (let count = 0; count < 16; count++) {
    const kind = oneOf(random, requests);
    const sector = oneOf(random, [...sectors, 20]);
    // A connection each: QEMU ends one that read what cannot be read.
    const guest = await NbdClient.connect(`nbd+unix:///n?socket=${join(directory, "nbd")}`);
    const failed = await request(guest, kind, sector * 512).then(
      () => "ok",
      () => "failed",
    );
    guest.destroy();
    outcomes.push(`${kind} ${sector}: ${failed}`);
  }
  await client.execute("block-export-del", { id: "n", mode: "hard" });
  await client.execute("blockdev-del", { "node-name": "n" });
  return outcomes;
}

function request(guest: NbdClient, kind: (typeof requests)[number], offset: number): Promise<void> {
  switch (kind) {
    case "read":
      return guest.read(new Uint8Array(512), offset);
    case "write":
      return guest.write(new Uint8Array(512).fill(2), offset);
    case "write-zeroes":
      return guest.writeZeroes(offset, 512);
    case "discard":
      return guest.trim(offset, 512);
    case "flush":
      return guest.flush();
  }
}

test("blkdebug fails what QEMU's fails", { timeout: 120_000 }, async (context) => {
  needQemu(context);
  const qemu = await connect(await startQemuAt());
  const ours = await startOurs();
  const first = Number(process.env.HEIRLOOM_SEED ?? 1);
  for (let seed = first; seed < first + 60; seed++) {
    const theirs = await play(qemu, seeded(seed));
    expect(await play(ours, seeded(seed)), `seed ${seed}`).toEqual(theirs);
  }
});
