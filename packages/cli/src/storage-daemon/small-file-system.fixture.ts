/**
 * A small file system of its own, on a loop device: one that can be full, and whose disk can fail. Needs root.
 *
 * The loop device's file lies on a tmpfs of little more than its size: when it is emptied and the room is taken by somebody else,
 * whatever is written to the device from then on fails.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished, type TestContext } from "vitest";
import { needTool, newImage } from "./daemon.fixture.ts";

export class SmallFileSystem {
  /** Where it is mounted. */
  readonly path: string;
  readonly #backing: string;

  private constructor(path: string, backing: string) {
    this.path = path;
    this.#backing = backing;
  }

  /** Skips the test with a sentence where nothing can be mounted. */
  static mount(context: TestContext, directory: string, length: number): SmallFileSystem {
    needTool(context, "mkfs.ext4", "losetup");
    const [path, under] = ["mounted", "under"].map((name) => join(directory, name));
    for (const place of [path, under]) mkdirSync(place);
    const size = `size=${length + 2 ** 20}`;
    const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "-o", size, "tmpfs", under], { encoding: "utf8" });
    if (status !== 0) context.skip(`nothing can be mounted here (it needs root): ${stderr.trim()}`);
    onTestFinished(() => void spawnSync("umount", ["-l", under]));
    const backing = newImage(join(under, "backing"), length);
    execFileSync("mkfs.ext4", ["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", backing]);
    const system = new SmallFileSystem(path, backing);
    const refused = system.#mount();
    // Not a failure in CI: containers there have no loop devices, whatever is installed.
    if (refused !== "") context.skip(`no loop mounts here (they need root and the loop module): ${refused}`);
    onTestFinished(() => system.unmount());
    return system;
  }

  /** Takes all the room that there is; what is returned gives it back. */
  fill(): () => void {
    const filler = join(this.path, "filler");
    writeFileSync(filler, "");
    for (let step = 2 ** 20; step >= 512; step /= 2) {
      const chunk = Buffer.alloc(step, 1);
      try {
        while (statfsSync(this.path).bavail > 0) writeFileSync(filler, chunk, { flag: "a" });
      } catch {
        // not so much is left
      }
    }
    return () => rmSync(filler);
  }

  /** What is on the disk now, as `restore` brings it back. */
  save(): void {
    execFileSync("sync", ["-f", this.path]);
    copyFileSync(this.#backing, this.#saved);
  }
  /** From here on nothing can be written to its disk. */
  breakDisk(): void {
    truncateSync(this.#backing, 0);
    try {
      for (;;) writeFileSync(`${this.#backing}.filler`, Buffer.alloc(65536, 1), { flag: "a" });
    } catch {
      // nothing is left
    }
  }
  /** Another disk with what was saved. Nobody has a file of it open. */
  restore(): void {
    this.unmount();
    rmSync(`${this.#backing}.filler`);
    copyFileSync(this.#saved, this.#backing);
    const refused = this.#mount();
    if (refused !== "") throw new Error(refused);
  }

  get #saved(): string {
    return join(this.path, "..", "saved");
  }

  unmount(): void {
    spawnSync("umount", ["-l", this.path]);
  }

  #mount(): string {
    const { status, stderr } = spawnSync("mount", ["-o", "loop,errors=remount-ro", this.#backing, this.path], {
      encoding: "utf8",
    });
    return status === 0 ? "" : stderr.trim();
  }
}
