/** A storage daemon of either kind, and its monitor. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LineClient } from "./line-client.mjs";

/** @typedef {"qemu" | "ours"} Kind */

const program = fileURLToPath(new URL("../../packages/cli/dist/storage-daemon/main.js", import.meta.url));

export class Daemon {
  /** @type {Kind} */
  kind;
  /** @type {string} */
  directory;
  /** @type {LineClient} */
  client;
  /** @type {import("node:child_process").ChildProcess} */
  #child;

  /**
   * @param {Kind} kind
   * @param {string} directory
   * @param {import("node:child_process").ChildProcess} child
   * @param {LineClient} client
   */
  constructor(kind, directory, child, client) {
    this.kind = kind;
    this.directory = directory;
    this.#child = child;
    this.client = client;
  }

  /** @param {Kind} kind @returns {Promise<Daemon>} */
  static async start(kind) {
    const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "heirloom-differential-"));
    const path = join(directory, "qmp");
    const options = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "chardev=m"];
    const child =
      kind === "qemu"
        ? spawn("qemu-storage-daemon", options, { stdio: ["ignore", "ignore", "ignore"] })
        : spawn(process.execPath, [program, ...options], { stdio: ["ignore", "ignore", "inherit"] });
    return new Daemon(kind, directory, child, await connect(path, child));
  }

  get pid() {
    return this.#child.pid;
  }

  get ended() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async stop() {
    this.client.close();
    this.#child.kill("SIGKILL");
    if (!this.ended) await once(this.#child, "exit");
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** @param {string} path @param {import("node:child_process").ChildProcess} child */
async function connect(path, child) {
  for (;;) {
    try {
      return await LineClient.connect(path);
    } catch (error) {
      if (child.exitCode !== null) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
