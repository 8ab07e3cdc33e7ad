/**
 * What both daemons start each sequence with: the same files, the same nodes on them, and a way to write as a guest does.
 *
 *   d   the disk, 17 clusters and a bit; exported as `d`, writable     t, u   targets of its length
 *   e   another disk of that length                                    f      a target that fails every write
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import type { Daemon } from "./daemon.ts";
import { seeded } from "./random.ts";

export const cluster = 65536;
export const diskLength: number = 17 * cluster + 4096;

export class Scene {
  readonly daemon: Daemon;
  readonly directory: string;
  #guest: NbdClient | undefined;

  private constructor(daemon: Daemon, directory: string) {
    this.daemon = daemon;
    this.directory = directory;
  }

  static async open(daemon: Daemon, seed: number): Promise<Scene> {
    const scene = new Scene(daemon, join(daemon.directory, "scene"));
    rmSync(scene.directory, { recursive: true, force: true });
    mkdirSync(scene.directory);
    for (const name of ["d", "e", "t", "u", "f"]) writeFileSync(scene.path(name), content(name, seed));
    const file = (name: string) => ({ driver: "file", filename: scene.path(name), discard: "unmap" }) as const;
    for (const name of ["d", "e", "t", "u"] as const) {
      await daemon.client.execute("blockdev-add", { ...file(name), "node-name": name });
    }
    await daemon.client.execute("blockdev-add", {
      driver: "blkdebug",
      "node-name": "f",
      image: file("f"),
      "inject-error": [
        { event: "none", iotype: "write", errno: 28 },
        { event: "none", iotype: "write-zeroes", errno: 28 },
      ],
    });
    const socket = join(daemon.directory, "nbd");
    await daemon.client.execute("nbd-server-start", { addr: { type: "unix", data: { path: socket } } });
    await daemon.client.execute("block-export-add", { type: "nbd", id: "guest", "node-name": "d", writable: true });
    scene.#guest = await NbdClient.connect(`nbd+unix:///d?socket=${socket}`);
    return scene;
  }

  path(name: string): string {
    return join(this.directory, `${name}.raw`);
  }

  async write(offset: number, length: number, value: number): Promise<void> {
    await this.#guest?.write(new Uint8Array(length).fill(value), offset);
  }
  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.#guest?.writeZeroes(offset, length);
  }

  /** Nothing of it is left in the daemon. */
  async close(): Promise<void> {
    const { client } = this.daemon;
    await this.#guest?.close();
    await this.daemon.endJobs();
    await client.execute("nbd-server-stop");
    for (const name of ["f", "u", "t", "e", "d"]) await client.execute("blockdev-del", { "node-name": name });
  }
}

/** Data with holes, which both see as such. */
function content(name: string, seed: number): Uint8Array {
  const bytes = new Uint8Array(diskLength);
  if (name === "t" || name === "u" || name === "f") return bytes;
  const random = seeded(seed + name.charCodeAt(0));
  for (let offset = 0; offset < diskLength; offset += cluster) {
    if (random() < 0.7) bytes.fill(1 + Math.floor(random() * 255), offset, Math.min(offset + cluster, diskLength));
  }
  return bytes;
}
