/** One guest, its disk on a server, and backups while it writes: the points in time that were restored, kept to be examined. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeImage } from "./ext4.ts";
import { Guest, type Part, parts } from "./guest.fixture.ts";
import type { StartStorage, Storage } from "./storage.fixture.ts";

export const diskLength = 128 * 2 ** 20;
/** Steps that the guest makes between two backups, and while one runs. */
const stepsBetween = 8;

export interface Point {
  /** A raw image. */
  readonly image: string;
  /** The guest had said of this step, before the backup was asked for, that it is on its disk. */
  readonly atLeast: number;
  /** The last step that the guest had said when the backup's instant was over; the next one may be on the disk. */
  readonly atMost: number;
}

export class GuestScene {
  readonly scratch: string = mkdtempSync(join(tmpdir(), "heirloom-guest-"));
  readonly image: string = this.path("disk.raw");
  readonly target: string = this.path("target.raw");
  readonly points: Point[] = [];
  #storage: Storage | undefined;
  #guest: Guest | undefined;

  /** The guest has mounted the disk and writes. */
  static async start(startStorage: StartStorage): Promise<GuestScene> {
    const scene = new GuestScene();
    await makeImage(scene.image, diskLength);
    writeFileSync(scene.target, "");
    truncateSync(scene.target, diskLength);
    scene.#storage = await startStorage(scene.scratch, scene.image, scene.target);
    scene.#guest = new Guest({ uri: scene.#storage.uri, scratch: scene.scratch });
    await scene.guest.mount();
    await scene.guest.write();
    return scene;
  }

  path(name: string): string {
    return join(this.scratch, name);
  }

  get guest(): Guest {
    if (this.#guest === undefined) throw new Error("there is no guest");
    return this.#guest;
  }

  get storage(): Storage {
    if (this.#storage === undefined) throw new Error("there is no storage");
    return this.#storage;
  }

  /** A full backup, then incrementals, each begun at another part of a step and done only after the guest has written on. */
  async backUp(incrementals: number): Promise<void> {
    for (let index = 0; index <= incrementals; index++)
      await this.#backUpOnce(index === 0 ? "full" : "incremental", parts[index % parts.length] ?? "synced");
  }

  async #backUpOnce(sync: "full" | "incremental", part: Part): Promise<void> {
    await this.guest.step((await this.guest.now()) + stepsBetween, part);
    const atLeast = this.guest.synced;
    const backup = await this.storage.backup(sync);
    const atMost = await this.guest.now();
    await this.guest.step(atMost + stepsBetween);
    await backup.hurry();
    await backup.done;
    const image = this.path(`point${this.points.length}.raw`);
    copySparse(this.target, image);
    this.points.push({ image, atLeast, atMost });
  }

  async close(): Promise<void> {
    await this.#guest?.kill();
    await this.#storage?.close();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

export function copySparse(source: string, target: string): void {
  execFileSync("cp", ["--sparse=always", source, target]);
}
