/** Servers that others wrote, on Unix sockets; each is ended with its test. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, watch } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, type TestContext } from "vitest";

export function needTool(context: TestContext, tool: string): void {
  if (spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0) return;
  if (process.env.CI) throw new Error(`${tool} is not installed, and CI must have it`);
  context.skip(`${tool} is not installed`);
}

export function run(tool: string, ...args: string[]): string {
  return execFileSync(tool, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A directory that goes when the test ends. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "heirloom-nbd-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

let servers = 0;

export interface Peer {
  readonly socket: string;
  /** Of the default export, or of one of that name. */
  uri(name?: string): string;
  /** Ends the server, as a crash would; resolves when it is gone. */
  kill(): Promise<void>;
}

/** nbdkit with these arguments, once it listens. */
export function nbdkit(context: TestContext, args: readonly string[], socket?: string): Promise<Peer> {
  needTool(context, "nbdkit");
  const all = (path: string, pidFile: string): string[] => [
    ...["-f", "--exit-with-parent", "-U", path, "--pidfile", pidFile],
    ...args,
  ];
  return start("nbdkit", all, socket);
}

export function qemuNbd(context: TestContext, args: readonly string[], socket?: string): Promise<Peer> {
  needTool(context, "qemu-nbd");
  return start("qemu-nbd", (path, pidFile) => ["-k", path, "--pid-file", pidFile, "-t", ...args], socket);
}

async function start(tool: string, args: (socket: string, pidFile: string) => string[], at?: string): Promise<Peer> {
  const directory = scratchDirectory();
  const socket = at ?? join(directory, `${++servers}.sock`);
  const pidFile = join(directory, "pid");
  const child = spawn(tool, args(socket, pidFile), { stdio: ["ignore", "ignore", "pipe"] });
  let words = "";
  child.stderr.on("data", (bytes: Buffer) => (words += String(bytes)));
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  onTestFinished(kill);
  await new Promise<void>((resolve, reject) => {
    const look = (): void => {
      // Written when it listens.
      if (existsSync(pidFile) && readFileSync(pidFile, "utf8") !== "") resolve();
    };
    const watcher = watch(directory, look);
    onTestFinished(() => watcher.close());
    child.once("exit", (code) => reject(new Error(`${tool} ended with ${code}: ${words}`)));
    look();
  });
  return { socket, uri: (name = "") => `nbd+unix:///${encodeURIComponent(name)}?socket=${socket}`, kill };
}
