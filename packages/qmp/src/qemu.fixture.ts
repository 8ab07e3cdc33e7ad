/** The real qemu-storage-daemon to compare with, spoken to over its monitor in raw bytes. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, type TestContext } from "vitest";

/** Skips with a sentence where it is missing; fails where CI promises it. */
export function needQemu(context: TestContext): void {
  if (spawnSync("sh", ["-c", "command -v qemu-storage-daemon"]).status === 0) return;
  if (process.env.CI) throw new Error("qemu-storage-daemon is not installed, and CI must have it");
  context.skip("qemu-storage-daemon is not installed");
}

export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "heirloom-qmp-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A monitor of a daemon that ends with the test. */
export async function startQemu(...options: string[]): Promise<RawMonitor> {
  return RawMonitor.connect(startQemuOn(join(scratchDirectory(), "monitor"), options));
}

/** A daemon that ends with the test. @returns its directory, in which `qmp` is its monitor */
export async function startQemuAt(): Promise<string> {
  const directory = scratchDirectory();
  (await RawMonitor.connect(startQemuOn(join(directory, "qmp"), []))).close();
  return directory;
}

function startQemuOn(path: string, options: readonly string[]): string {
  const monitor = ["--chardev", `socket,id=m,path=${path},server=on,wait=off`, "--monitor", "chardev=m"];
  const child = spawn("qemu-storage-daemon", [...options, ...monitor], { stdio: ["ignore", "ignore", "inherit"] });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  });
  return path;
}

export class RawMonitor {
  readonly #socket: Socket;
  #text = "";
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      this.#text += text;
      this.#wake?.();
    });
    socket.on("close", () => this.#wake?.());
  }

  /** Waits until somebody listens there. */
  static async connect(path: string): Promise<RawMonitor> {
    const deadline = Date.now() + 10_000;
    for (;;) {
      const socket = connect(path);
      const connected = await new Promise<boolean>((resolve) => {
        socket.once("connect", () => resolve(true));
        socket.once("error", () => resolve(false));
      });
      if (connected) return new RawMonitor(socket);
      if (Date.now() > deadline) throw new Error(`nobody listens on ${path} (${String(existsSync(path))})`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  send(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** The next line, with its end. */
  async line(): Promise<string> {
    return this.until((line) => line.length > 0);
  }

  /** Lines up to the first that fits, with it. */
  async until(fits: (line: string) => boolean): Promise<string> {
    let taken = "";
    for (;;) {
      const end = this.#text.indexOf("\n") + 1;
      if (end > 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end);
        taken += line;
        if (fits(line)) return taken;
        continue;
      }
      if (this.#socket.closed) throw new Error(`the monitor closed after: ${taken}${this.#text}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
