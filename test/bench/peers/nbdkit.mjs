/** nbdkit with its file plugin: what a server costs that tracks nothing. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export class Nbdkit {
  #process;
  #stderr = "";

  /** @param stage where its socket goes */
  static async start(stage, filename) {
    const server = new Nbdkit();
    const socket = stage.path("nbdkit.sock");
    const pidFile = stage.path("nbdkit.pid");
    const options = ["--foreground", "--unix", socket, "--pidfile", pidFile];
    server.#process = spawn("nbdkit", [...options, "file", filename], { stdio: ["ignore", "ignore", "pipe"] });
    const kill = () => server.#process.kill("SIGKILL");
    process.once("exit", kill);
    server.#process.once("exit", () => process.removeListener("exit", kill));
    server.#process.stderr.on("data", (data) => (server.#stderr += data));
    // It writes its process number once it listens.
    while (!existsSync(pidFile)) {
      if (server.#process.exitCode !== null) throw new Error(`nbdkit has ended: ${server.#stderr}`);
      await sleep(10);
    }
    server.uri = `nbd+unix:///?socket=${socket}`;
    return server;
  }

  get pid() {
    return this.#process.pid;
  }

  async stop() {
    const exit = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await exit;
  }
}
