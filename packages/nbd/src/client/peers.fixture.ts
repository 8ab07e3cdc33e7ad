/** Servers that others wrote, on Unix sockets; each is ended with its test. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
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
  /** Ends the server, as a crash would. */
  kill(): void;
}

/** nbdkit with these arguments; it goes into the background when it listens. */
export function nbdkit(context: TestContext, args: readonly string[], socket?: string): Peer {
  needTool(context, "nbdkit");
  return start("nbdkit", (path, pidFile) => ["-U", path, "--pidfile", pidFile, ...args], socket);
}

export function qemuNbd(context: TestContext, args: readonly string[]): Peer {
  needTool(context, "qemu-nbd");
  return start("qemu-nbd", (path, pidFile) => ["-k", path, "--pid-file", pidFile, "--fork", "-t", ...args]);
}

function start(tool: string, args: (socket: string, pidFile: string) => string[], at?: string): Peer {
  const directory = scratchDirectory();
  const socket = at ?? join(directory, `${++servers}.sock`);
  const pidFile = join(directory, "pid");
  execFileSync(tool, args(socket, pidFile), { stdio: ["ignore", "ignore", "inherit"] });
  const pid = Number(readFileSync(pidFile, "utf8"));
  let alive = true;
  const kill = (): void => {
    if (alive) process.kill(pid, "SIGKILL");
    alive = false;
  };
  onTestFinished(kill);
  return { socket, uri: (name = "") => `nbd+unix:///${encodeURIComponent(name)}?socket=${socket}`, kill };
}
