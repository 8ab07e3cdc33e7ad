/** A storage daemon of either kind, its monitor, and what it has told. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { QmpClient, type QmpClientEvent } from "@heirloom/qmp";

export type Kind = "qemu" | "ours";

const program = fileURLToPath(new URL("../../packages/cli/dist/storage-daemon/main.js", import.meta.url));

/** States in which a job of these tests stays until somebody does something, and one in which it may be at work. */
const atRest: ReadonlySet<string> = new Set(["paused", "waiting", "pending", "concluded"]);

export class Daemon {
  readonly kind: Kind;
  readonly directory: string;
  readonly client: QmpClient;
  readonly #child: ChildProcess;
  readonly #events: QmpClientEvent[] = [];

  private constructor(kind: Kind, directory: string, child: ChildProcess, client: QmpClient) {
    this.kind = kind;
    this.directory = directory;
    this.#child = child;
    this.client = client;
    void this.#follow();
  }

  static async start(kind: Kind): Promise<Daemon> {
    const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), `heirloom-differential-`));
    const path = join(directory, "qmp");
    const options = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "chardev=m"];
    const child =
      kind === "qemu"
        ? spawn("qemu-storage-daemon", options, { stdio: ["ignore", "ignore", "ignore"] })
        : spawn(process.execPath, [program, ...options], { stdio: ["ignore", "ignore", "inherit"] });
    const client = await connect(path, child);
    return new Daemon(kind, directory, child, client);
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** What was told since it was asked last. */
  takeEvents(): QmpClientEvent[] {
    return this.#events.splice(0);
  }

  /** Waits until no job is at work but those that never end by themselves (`sync: none`). */
  async settle(endless: ReadonlySet<string>): Promise<void> {
    for (;;) {
      const jobs = await this.client.execute("query-jobs");
      const busy = jobs.filter(({ id, status }) => !atRest.has(status) && !(endless.has(id) && status === "running"));
      if (busy.length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async endJobs(): Promise<void> {
    for (const { id, status } of await this.client.execute("query-jobs")) {
      if (status !== "concluded") await this.client.execute("job-cancel", { id }).catch(() => {});
    }
    await this.settle(new Set());
    for (const { id } of await this.client.execute("query-jobs")) await this.client.execute("job-dismiss", { id });
  }

  async stop(): Promise<void> {
    this.client.close();
    this.#child.kill("SIGKILL");
    if (!this.ended) await once(this.#child, "exit");
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #follow(): Promise<void> {
    for await (const event of this.client.events()) this.#events.push(event);
  }
}

async function connect(path: string, child: ChildProcess): Promise<QmpClient> {
  for (;;) {
    try {
      return await QmpClient.connect({ path });
    } catch (error) {
      if (child.exitCode !== null) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
