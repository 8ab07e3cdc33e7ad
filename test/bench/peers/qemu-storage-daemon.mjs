/** qemu-storage-daemon, driven over QMP on a unix socket: the peer that does the same job on the same files. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createConnection } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export class QemuStorageDaemon {
  #process;
  #socket;
  #commands = 0;
  #pending = new Map();
  #listeners = new Set();
  #stderr = "";
  /** By all backups so far. */
  copiedBytes = 0;

  /** @param stage where its sockets go @param command another program with the same command line */
  static async start(stage, [program, ...words] = ["qemu-storage-daemon"], name = "qemu") {
    const daemon = new QemuStorageDaemon();
    const monitor = stage.path(`${name}-qmp.sock`);
    daemon.nbdSocket = stage.path(`${name}-nbd.sock`);
    daemon.#process = spawn(program, [
      ...words,
      "--chardev",
      `socket,id=monitor,path=${monitor},server=on,wait=off`,
      "--monitor",
      "chardev=monitor",
      "--nbd-server",
      `addr.type=unix,addr.path=${daemon.nbdSocket}`,
    ]);
    const kill = () => daemon.#process.kill("SIGKILL");
    process.once("exit", kill);
    daemon.#process.once("exit", () => process.removeListener("exit", kill));
    daemon.#process.stderr.on("data", (data) => (daemon.#stderr += data));
    daemon.#socket = await daemon.#connect(monitor);
    const lines = createInterface(daemon.#socket);
    lines.on("line", (text) => daemon.#hear(JSON.parse(text)));
    lines.on("error", () => {}); // the socket's, which is told to whoever waits for the exit
    await daemon.execute("qmp_capabilities");
    return daemon;
  }

  /** @throws Error with what the daemon says */
  execute(command, args = {}) {
    const id = ++this.#commands;
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject, command }));
  }

  /** A raw file as a node. Nobody locks: ours has the same files open. */
  async addFile(name, filename, options = {}) {
    const file = { driver: "file", filename, locking: "off", ...options };
    await this.execute("blockdev-add", { driver: "raw", "node-name": name, file, ...options });
  }

  /** @returns the URI of the node's writable export */
  async export(node, options = {}) {
    await this.execute("block-export-add", {
      type: "nbd",
      id: `export-${node}`,
      "node-name": node,
      name: node,
      writable: true,
      ...options,
    });
    return `nbd+unix:///${node}?socket=${this.nbdSocket}`;
  }

  /** Begins a backup. @returns when it was begun, its name, and milliseconds from the command to BLOCK_JOB_COMPLETED */
  async begin(args, alongside = []) {
    const id = `backup-${++this.#commands}`;
    const ended = this.#event((event) => event.event === "BLOCK_JOB_COMPLETED" && event.data.device === id);
    const begin = performance.now();
    const action = { type: "blockdev-backup", data: { "job-id": id, ...args } };
    if (alongside.length === 0) await this.execute(action.type, action.data);
    else await this.execute("transaction", { actions: [...alongside, action] });
    const done = ended.then(({ data }) => {
      const elapsedMs = performance.now() - begin;
      if (data.error !== undefined || data.offset !== data.len)
        throw new Error(`blockdev-backup: ${data.error ?? "not everything was copied"}`);
      this.copiedBytes += data.len;
      return elapsedMs;
    });
    return { id, done };
  }

  /** Runs a backup to its end. @returns milliseconds from the command to BLOCK_JOB_COMPLETED */
  async backup(args) {
    const { done } = await this.begin(args);
    return done;
  }

  get pid() {
    return this.#process.pid;
  }

  /** @throws Error if it has ended before */
  async stop() {
    const { exitCode, signalCode } = this.#process;
    if ((exitCode ?? signalCode) !== null)
      throw new Error(`qemu-storage-daemon has ended before (${exitCode ?? signalCode}): ${this.#stderr}`);
    const exit = once(this.#process, "exit");
    this.#socket.on("error", () => {}); // it may end before the last answer is read
    this.#socket.write(`${JSON.stringify({ execute: "quit" })}\n`);
    await exit;
    this.#socket.destroy();
  }

  async #connect(path) {
    for (let tries = 0; ; tries++) {
      const socket = createConnection(path);
      const connected = await new Promise((resolve) => {
        socket.once("connect", () => resolve(true));
        socket.once("error", () => resolve(false));
      });
      if (connected) return socket;
      if (tries === 100 || this.#process.exitCode !== null)
        throw new Error(`qemu-storage-daemon does not listen: ${this.#stderr}`);
      await sleep(50);
    }
  }

  #event(wanted) {
    return new Promise((resolve) => {
      const listener = (event) => {
        if (!wanted(event)) return;
        this.#listeners.delete(listener);
        resolve(event);
      };
      this.#listeners.add(listener);
    });
  }

  #hear(message) {
    if (message.event !== undefined) {
      for (const listener of [...this.#listeners]) listener(message);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return; // the greeting
    this.#pending.delete(message.id);
    if (message.error === undefined) pending.resolve(message.return);
    else pending.reject(new Error(`${pending.command}: ${message.error.desc}`));
  }
}
