/** An image of known bytes, a server that exports it, and independent programs that are run to their end as its clients. */
import { execFile } from "node:child_process";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished, type TestContext } from "vitest";
import { needTool, scratchDirectory } from "../../packages/block/src/tool.fixture.ts";
import type { ExportedImage, Server, Serving } from "./servers.fixture.ts";

export const KiB = 1024;
export const MiB = 1024 * KiB;
/** Granules of the bitmaps. */
export const granularity = 64 * KiB;
/** A client that takes longer hangs. */
const clientDeadlineMs = 60_000;

export class Interop {
  readonly scratch: string;
  readonly #serving: Serving;
  /** What the export `disk` must hold, kept by the test alone. */
  readonly expected: Buffer;

  private constructor(scratch: string, serving: Serving, expected: Buffer) {
    this.scratch = scratch;
    this.#serving = serving;
    this.expected = expected;
  }

  /** Serves `content` as the export `disk`, and what else there is. */
  static async open(
    context: TestContext,
    server: Server,
    tools: readonly string[],
    content: Buffer,
    options: Omit<Partial<ExportedImage>, "name" | "file"> = {},
    others: Readonly<Record<string, Buffer>> = {},
  ): Promise<Interop> {
    for (const tool of [...server.tools, ...tools]) needTool(context, tool);
    const scratch = scratchDirectory();
    const images: ExportedImage[] = [{ name: "disk", file: join(scratch, "disk.raw"), ...options }];
    for (const name of Object.keys(others)) images.push({ name, file: join(scratch, `${name}.raw`) });
    for (const { name, file } of images)
      writeSparse(file, name === "disk" ? content : (others[name] ?? Buffer.alloc(0)));
    const serving = await server.start(scratch, images);
    onTestFinished(() => serving.close());
    return new Interop(scratch, serving, Buffer.from(content));
  }

  get uri(): string {
    return this.uriOf("disk");
  }

  uriOf(name: string): string {
    return this.#serving.uri(name);
  }

  path(name: string): string {
    return join(this.scratch, name);
  }

  /** The file under the export, as the kernel has it. */
  get stored(): Buffer {
    return readFileSync(this.path("disk.raw"));
  }
}

export interface Ran {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

/** To its end, whatever that is. @throws Error if there is none in time */
export function attempt(tool: string, args: readonly string[], input = ""): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: 64 * MiB, timeout: clientDeadlineMs, killSignal: "SIGKILL" as const };
    const child = execFile(tool, [...args], options, (error, output, errors) => {
      if (error === null) resolve({ status: 0, output, errors });
      else if (typeof error.code === "number") resolve({ status: error.code, output, errors });
      else reject(new Error(`${tool} ${args.join(" ")}: no end in time\n${output}${errors}`, { cause: error }));
    });
    child.stdin?.on("error", () => {}); // it ended without reading: its exit status says so
    child.stdin?.end(input);
  });
}

/** @returns its standard output @throws Error unless it exits with 0 */
export async function run(tool: string, args: readonly string[], input = ""): Promise<string> {
  const { status, output, errors } = await attempt(tool, args, input);
  if (status !== 0) throw new Error(`${tool} ${args.join(" ")}: exit status ${status}\n${output}${errors}`);
  return output;
}

/** Bytes of which none is zero, decided by a seed. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = (state >>> 24) | 1;
  }
  return bytes;
}

/** Where two images differ first; -1 if they do not. */
export function firstDifference(one: Uint8Array, other: Uint8Array): number {
  if (Buffer.compare(one, other) === 0) return -1;
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) if (one[at] !== other[at]) return at;
  return length;
}

/** Pages of zeroes are holes. */
function writeSparse(file: string, content: Buffer): void {
  writeFileSync(file, "");
  truncateSync(file, content.length);
  const fd = openSync(file, "r+");
  for (let at = 0; at < content.length; at += 4 * KiB) {
    const page = content.subarray(at, at + 4 * KiB);
    if (page.some((byte) => byte !== 0)) writeSync(fd, page, 0, page.length, at);
  }
  closeSync(fd);
}
