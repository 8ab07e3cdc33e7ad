/** The built daemon as its user runs it: a process with a QMP monitor, nodes for images, an NBD export. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { QmpClient } from "@heirloom/qmp";
import { onTestFinished, type TestContext } from "vitest";

export const program: string = fileURLToPath(new URL("../../dist/storage-daemon/main.js", import.meta.url));

export function needTool(context: TestContext, ...tools: readonly string[]): void {
  for (const tool of tools) {
    if (spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0) continue;
    if (process.env.CI) throw new Error(`${tool} is not installed, and CI must have it`);
    context.skip(`${tool} is not installed`);
  }
}

/** A directory on a disk that goes when the test ends. */
export function scratchDirectory(base: string = tmpdir()): string {
  const directory = mkdtempSync(join(base, "heirloom-daemon-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function newImage(path: string, length: number): string {
  writeFileSync(path, "");
  truncateSync(path, length);
  return path;
}

export interface Bitmap {
  readonly name?: string;
  readonly count: number;
  readonly granularity: number;
  readonly recording: boolean;
  readonly busy: boolean;
  readonly persistent: boolean;
  readonly inconsistent?: boolean;
}

export class RunningDaemon {
  readonly child: ChildProcess;
  readonly qmp: QmpClient;
  /** What it wrote to standard error. */
  readonly errors: () => string;

  private constructor(child: ChildProcess, qmp: QmpClient, errors: () => string) {
    this.child = child;
    this.qmp = qmp;
    this.errors = errors;
  }

  /** @throws what it wrote to standard error, where it ended before anybody could speak to it */
  static async start(directory: string, ...words: readonly string[]): Promise<RunningDaemon> {
    const path = join(directory, "qmp.sock");
    rmSync(path, { force: true });
    const monitor = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "m"];
    const child = spawn(process.execPath, [program, ...words, ...monitor], { stdio: ["ignore", "ignore", "pipe"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    let errors = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text));
    const ended = once(child, "close");
    for (;;) {
      const qmp = await QmpClient.connect({ path }).catch(() => undefined);
      if (qmp !== undefined) {
        onTestFinished(() => qmp.close());
        return new RunningDaemon(child, qmp, () => errors);
      }
      if (child.exitCode !== null) {
        await ended;
        throw new Error(errors);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  async bitmaps(node: string): Promise<readonly Bitmap[]> {
    const nodes = await this.qmp.execute("query-named-block-nodes", {});
    return nodes.find((one) => one["node-name"] === node)?.["dirty-bitmaps"] ?? [];
  }

  async addBitmap(node: string, name: string, more: { disabled?: boolean; granularity?: number } = {}): Promise<void> {
    await this.qmp.execute("block-dirty-bitmap-add", { node, name, persistent: true, ...more });
  }

  /** Puts a node on a socket. @returns its URI */
  async serve(node: string, socket: string): Promise<string> {
    rmSync(socket, { force: true });
    await this.qmp.execute("nbd-server-start", { addr: { type: "unix", data: { path: socket } } });
    await this.qmp.execute("block-export-add", { type: "nbd", id: `of-${node}`, "node-name": node, writable: true });
    return `nbd+unix:///${node}?socket=${socket}`;
  }

  /** A backup into a node, to its end. @returns why it failed */
  async backup(target: string, options: { readonly device: string; readonly bitmap?: string }): Promise<string | null> {
    const events = this.qmp.events();
    await this.qmp.execute("blockdev-backup", {
      "job-id": "backup",
      target,
      sync: options.bitmap === undefined ? "full" : "incremental",
      ...options,
    });
    for await (const { name, data } of events) if (name === "BLOCK_JOB_COMPLETED") return data.error ?? null;
    throw new Error("the daemon is gone");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const closed = once(this.child, "close");
    this.child.kill(signal);
    await closed;
    this.qmp.close();
  }
}

/** qemu-storage-daemon with one qcow2 image, and a bitmap in it. */
export class QemuDaemon {
  readonly #child: ChildProcess;
  readonly #qmp: QmpClient;

  private constructor(child: ChildProcess, qmp: QmpClient) {
    this.#child = child;
    this.#qmp = qmp;
  }

  static async start(directory: string, image: string): Promise<QemuDaemon> {
    const path = join(directory, "qemu.sock");
    rmSync(path, { force: true });
    const file = `file,node-name=disk-file,filename=${image}`;
    const child = spawn(
      "qemu-storage-daemon",
      [
        ...["--blockdev", file, "--blockdev", "qcow2,node-name=disk,file=disk-file"],
        ...["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "m"],
      ],
      { stdio: "ignore" },
    );
    onTestFinished(() => void child.kill("SIGKILL"));
    for (;;) {
      const qmp = await QmpClient.connect({ path }).catch(() => undefined);
      if (qmp !== undefined) {
        onTestFinished(() => qmp.close());
        return new QemuDaemon(child, qmp);
      }
      if (child.exitCode !== null) throw new Error(`qemu-storage-daemon ended: ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async kill(): Promise<void> {
    const closed = once(this.#child, "close");
    this.#child.kill("SIGKILL");
    await closed;
    this.#qmp.close();
  }

  /** The first bitmap of the disk. */
  async bitmap(): Promise<Bitmap | undefined> {
    const nodes = await this.#qmp.execute("query-named-block-nodes", {});
    return nodes.find((one) => one["node-name"] === "disk")?.["dirty-bitmaps"]?.[0];
  }

  /** What it says to a command that it refuses. */
  async refusal(command: string, args: object): Promise<string> {
    return this.#qmp.executeAny(command, args as never).then(
      () => "done",
      (error: unknown) => (error as Error).message,
    );
  }
}

/** `raw` on `file`, as tools set a disk up. */
export function diskOptions(node: string, image: string): string[] {
  return [
    "--blockdev",
    `file,node-name=${node}-file,filename=${image}`,
    "--blockdev",
    `raw,node-name=${node},file=${node}-file`,
  ];
}
