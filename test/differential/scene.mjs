/**
 * What both daemons start each sequence with: the same files, the same nodes on them, and guests.
 *
 *   d, e   disks of 17 clusters and a bit; `d` has a guest
 *   s      a disk with a guest, whose sector `badSector` cannot be read or written while a fault is on; each flush of the guest
 *          turns the fault on or off
 *   t, u   targets of that length
 *   f      a target that fails every write
 *   g      a target whose first write fails; a sequence can take it away and add it anew
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import { Choice } from "./random.mjs";

export const cluster = 65536;
export const diskLength = 17 * cluster + 4096;
export const badSector = 5 * 128 + 3;
/** No request touches it: a rule that changes which rules are active, and fails nothing. */
const noSector = 2 ** 40;

const EIO = 5;
const ENOSPC = 28;
const files = ["d", "e", "s", "t", "u", "f", "g"];
/** What stays at its place from the first command to the last; bitmaps and jobs are made on these. */
export const nodes = ["d", "e", "s", "t", "u", "f", "g"];

/** Stands for the scene's directory in what is sent and in what is told. */
const here = "@";

export class Scene {
  daemon;
  directory;
  /** @type {Map<string, NbdClient>} */
  #guests = new Map();

  /** @param {import("./daemon.mjs").Daemon} daemon */
  constructor(daemon) {
    this.daemon = daemon;
    this.directory = join(daemon.directory, "scene");
  }

  /** @param {import("./daemon.mjs").Daemon} daemon @param {number} seed @returns {Promise<Scene>} */
  static async open(daemon, seed) {
    const scene = new Scene(daemon);
    rmSync(scene.directory, { recursive: true, force: true });
    mkdirSync(scene.directory);
    for (const name of files) writeFileSync(scene.path(name), content(name, seed));
    const { client } = daemon;
    const socket = join(scene.directory, "nbd");
    const guest = (/** @type {string} */ name) => ({ type: "nbd", id: name, "node-name": name, writable: true });
    await Promise.all([
      ...nodes.map((name) => client.must("blockdev-add", scene.here(nodeOptions(name)))),
      client.must("nbd-server-start", { addr: { type: "unix", data: { path: socket } } }),
      client.must("block-export-add", guest("d")),
      client.must("block-export-add", guest("s")),
    ]);
    for (const name of ["d", "s"]) {
      scene.#guests.set(name, await NbdClient.connect(`nbd+unix:///${name}?socket=${socket}`));
    }
    return scene;
  }

  /** @param {string} name */
  path(name) {
    return join(this.directory, `${name}.raw`);
  }

  /** The same with the scene's directory for `@`. @template Value @param {Value} value @returns {Value} */
  here(value) {
    return JSON.parse(JSON.stringify(value).replaceAll(`"${here}/`, `"${this.directory}/`));
  }

  /** The other way round. @template Value @param {Value} value @returns {Value} */
  anywhere(value) {
    return JSON.parse(JSON.stringify(value).replaceAll(this.directory, here));
  }

  /** @param {string} name @returns {NbdClient} */
  guest(name) {
    const guest = this.#guests.get(name);
    if (guest === undefined) throw new Error(`there is no guest on ${name}`);
    return guest;
  }

  /** Nothing of it is left in the daemon. */
  async close() {
    const { client } = this.daemon;
    await Promise.all([...this.#guests.values()].map((guest) => guest.close()));
    await endJobs(client);
    await client.must("nbd-server-stop");
    const left = /** @type {Array<{ "node-name": string }>} */ (await client.must("query-named-block-nodes"));
    // Newest first: what stands on others before them.
    for (const { "node-name": name } of left) {
      // Inner nodes go with theirs.
      if (!name.startsWith("#")) await client.must("blockdev-del", { "node-name": name });
    }
    client.events.length = 0;
  }
}

/** @param {import("./line-client.mjs").LineClient} client */
async function endJobs(client) {
  for (;;) {
    const jobs = /** @type {Array<{ id: string, status: string }>} */ (await client.must("query-jobs"));
    if (jobs.length === 0) return;
    for (const { id, status } of jobs) {
      await client.ask(status === "concluded" ? "job-dismiss" : "job-cancel", { id });
    }
    await client.news(5);
  }
}

/** @param {string} name @returns {Record<string, unknown>} */
export function nodeOptions(name) {
  const file = { driver: "file", filename: `@/${name}.raw`, discard: "unmap" };
  if (name === "s") return { driver: "raw", "node-name": "s", discard: "unmap", file: switched(file) };
  if (name === "f") {
    const rules = ["write", "write-zeroes"].map((iotype) => ({ event: "none", iotype, errno: ENOSPC }));
    return { driver: "blkdebug", "node-name": "f", image: file, "inject-error": rules };
  }
  if (name === "g") return onceFaulty(ENOSPC);
  return { ...file, "node-name": name };
}

/** @param {number} errno @returns {Record<string, unknown>} */
export function onceFaulty(errno) {
  const image = { driver: "file", filename: "@/g.raw" };
  const rule = { event: "write_aio", iotype: "write", errno, once: true };
  return { driver: "raw", "node-name": "g", file: { driver: "blkdebug", image, "inject-error": [rule] } };
}

/** @param {object} image */
function switched(image) {
  const flush = { event: "flush_to_os" };
  const rules = [
    ["read_aio", "read"],
    ["write_aio", "write"],
  ].flatMap(([event, iotype]) => [
    { event, iotype, state: 2, sector: badSector, errno: EIO },
    { event, iotype, state: 1, sector: noSector },
  ]);
  return {
    driver: "blkdebug",
    image,
    "set-state": [
      { ...flush, state: 1, new_state: 2 },
      { ...flush, state: 2, new_state: 1 },
    ],
    "inject-error": rules,
  };
}

/** Data with holes, which both see as such. @param {string} name @param {number} seed */
function content(name, seed) {
  const bytes = new Uint8Array(diskLength);
  if (!["d", "e", "s"].includes(name)) return bytes;
  const choice = new Choice(seed + name.charCodeAt(0));
  for (let offset = 0; offset < diskLength; offset += cluster) {
    if (choice.maybe(0.7)) bytes.fill(1 + choice.below(255), offset, Math.min(offset + cluster, diskLength));
  }
  return bytes;
}
