/** The built command as its user runs it: a child process, its output, its exit status. And programs of others. */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { onTestFinished, type TestContext } from "vitest";

export const heirloom: string = fileURLToPath(new URL("../../dist/heirloom/main.js", import.meta.url));

export interface Ran {
  readonly status: number | string | null;
  readonly output: string;
  readonly errors: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** To its end, which comes within 20 seconds. */
export function run(tool: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve) => {
    const child = execFile(tool, args, { encoding: "utf8", timeout: 20_000, ...options }, (error, output, errors) => {
      resolve({ status: error === null ? 0 : (error.code ?? error.signal ?? null), output, errors });
    });
    child.stdin?.end();
  });
}

export function runHeirloom(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return run(process.execPath, [heirloom, ...args], options);
}

/** What a peer prints; a failure of its fails the test. */
export async function peer(tool: string, ...args: readonly string[]): Promise<string> {
  const { status, output, errors } = await run(tool, args);
  if (status !== 0) throw new Error(`${tool} ${args.join(" ")}: ${status}: ${errors}${output}`);
  return output;
}

export function needTool(context: TestContext, ...tools: readonly string[]): void {
  for (const tool of tools) {
    if (spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0) continue;
    if (process.env.CI) throw new Error(`${tool} is not installed, and CI must have it`);
    context.skip(`${tool} is not installed`);
  }
}

/** A directory that goes when the test ends. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "heirloom-cli-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface JsonEvent {
  readonly event: string;
  readonly [field: string]: unknown;
}

export interface ReadyEvent extends JsonEvent {
  readonly pid: number;
  readonly addresses: readonly { readonly path?: string; readonly port?: number }[];
  readonly exports: readonly { readonly name: string; readonly uris: readonly string[] }[];
}

/** `heirloom serve --json`, until the test ends. */
export class Serve {
  readonly child: ChildProcess;
  readonly events: JsonEvent[] = [];
  errors = "";
  #over = false;
  readonly #ended: Promise<unknown>;
  readonly #waiting = new Set<() => void>();

  constructor(args: readonly string[], options: RunOptions = {}) {
    this.child = spawn(process.execPath, [heirloom, "serve", "--json", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      ...options,
    });
    this.#ended = once(this.child, "close").then(() => {
      this.#over = true;
      this.#wake();
    });
    const { stdout, stderr } = this.child;
    if (stdout === null || stderr === null) throw new Error("pipes were asked for");
    createInterface({ input: stdout }).on("line", (line) => {
      this.events.push(JSON.parse(line) as JsonEvent);
      this.#wake();
    });
    stderr.setEncoding("utf8").on("data", (text: string) => (this.errors += text));
    onTestFinished(async () => {
      this.child.kill("SIGKILL");
      await this.#ended;
    });
  }

  /** The first event that is so, as soon as it was told. */
  async until(event: string, is: (event: JsonEvent) => boolean = () => true): Promise<JsonEvent> {
    for (;;) {
      const found = this.events.find((one) => one.event === event && is(one));
      if (found !== undefined) return found;
      if (this.#over) throw new Error(`ended without an event '${event}': ${this.errors}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  async ready(): Promise<ReadyEvent> {
    return (await this.until("ready")) as ReadyEvent;
  }

  /** The first URI of an export; of the first one by default. */
  async uri(name?: string): Promise<string> {
    const { exports } = await this.ready();
    const found = exports.find((one) => name === undefined || one.name === name);
    if (found === undefined) throw new Error(`no export '${name}'`);
    return found.uris[0];
  }

  /** Sends a signal, if one is named, and waits for the end. */
  async end(signal?: NodeJS.Signals): Promise<{ readonly status: number | null; readonly errors: string }> {
    if (signal !== undefined) this.child.kill(signal);
    await this.#ended;
    return { status: this.child.exitCode, errors: this.errors };
  }
}
