/**
 * qemu-storage-daemon and heirloom-storage-daemon, told the same. Each has a directory with the same files; `$DIR` in what is
 * sent, and in what comes back, is that directory. What they answer must be equal, and what the files hold.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { QmpClient, type QmpClientEvent, QmpError } from "@heirloom/qmp";
import { onTestFinished, type TestContext } from "vitest";
import { needTool } from "../../packages/block/src/tool.fixture.ts";

export const KiB = 1024;
export const MiB = 1024 * KiB;

type Kind = "qemu" | "ours";
type Arguments = Readonly<Record<string, unknown>>;

const program = fileURLToPath(new URL("../../packages/cli/dist/storage-daemon/main.js", import.meta.url));
const deadlineMs = 20_000;

class Daemon {
  readonly kind: Kind;
  readonly directory: string = mkdtempSync(join(tmpdir(), "heirloom-transcript-"));
  readonly events: QmpClientEvent[] = [];
  readonly child: ChildProcess;
  #client: QmpClient | undefined;

  constructor(kind: Kind) {
    this.kind = kind;
    const options = ["--chardev", `socket,id=m,path=${this.#path},server=on,wait=off`, "--monitor", "chardev=m"];
    const [command, words] =
      kind === "qemu" ? ["qemu-storage-daemon", options] : [process.execPath, [program, ...options]];
    this.child = spawn(command, words, { stdio: ["ignore", "ignore", "inherit"] });
    onTestFinished(() => this.#end());
  }

  get #path(): string {
    return join(this.directory, "qmp");
  }

  /** The answer, or the refusal's class and text. */
  async execute(name: string, args: Arguments): Promise<unknown> {
    try {
      return this.#hidden(
        await (await this.#connected()).executeAny(name, this.#shown(args) as Parameters<QmpClient["executeAny"]>[1]),
      );
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      return { class: error.class, desc: this.#hidden(error.desc) };
    }
  }

  async io(name: string, readOnly: boolean, commands: readonly string[]): Promise<readonly string[]> {
    const uri = `nbd+unix:///${name}?socket=${join(this.directory, "nbd")}`;
    const words = ["-f", "raw", ...(readOnly ? ["-r"] : []), ...commands.flatMap((command) => ["-c", command]), uri];
    const output = await toEnd("qemu-io", words);
    // Figures of speed are not compared.
    return (this.#hidden(output) as string).split("\n").filter((line) => line !== "" && !/ops\/sec/.test(line));
  }

  /** The extents of a metadata context. */
  async map(name: string, context: string): Promise<string> {
    const uri = `nbd+unix:///${name}?socket=${join(this.directory, "nbd")}`;
    return toEnd("nbdinfo", [`--map=${context}`, uri]);
  }

  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const end = Date.now() + deadlineMs;
    while (!(await holds())) {
      assert(Date.now() < end, `${this.kind}: ${what} does not come`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async #connected(): Promise<QmpClient> {
    while (this.#client === undefined) {
      const client = await QmpClient.connect({ path: this.#path }).catch(() => undefined);
      if (client === undefined) {
        assert.equal(this.child.exitCode, null, `${this.kind} has ended`);
        await new Promise((resolve) => setTimeout(resolve, 5));
        continue;
      }
      this.#client = client;
      void this.#follow(client);
    }
    return this.#client;
  }

  async #follow(client: QmpClient): Promise<void> {
    for await (const event of client.events()) this.events.push(event);
  }

  #shown(value: unknown): unknown {
    return JSON.parse(JSON.stringify(value).replaceAll("$DIR", this.directory));
  }
  #hidden(value: unknown): unknown {
    return JSON.parse(JSON.stringify(value).replaceAll(this.directory, "$DIR"));
  }

  async #end(): Promise<void> {
    this.#client?.close();
    this.child.kill("SIGKILL");
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function toEnd(command: string, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, words, { timeout: deadlineMs, killSignal: "SIGKILL" }, (error, output, errors) => {
      if (error?.killed === true) reject(new Error(`${command} ${words.join(" ")}: no end in time`));
      else resolve(output + errors);
    });
  });
}

export class Both {
  readonly qemu: Daemon = new Daemon("qemu");
  readonly ours: Daemon = new Daemon("ours");

  /** Both, unless a tool is missing. */
  static start(context: TestContext, ...tools: readonly string[]): Both {
    for (const tool of ["qemu-storage-daemon", ...tools]) needTool(context, tool);
    return new Both();
  }

  /** The same file in both directories, and a node on it. @param fill bytes of this value; none: a hole */
  async disk(name: string, length: number, fill = 0, options: Arguments = {}): Promise<void> {
    for (const { directory } of [this.qemu, this.ours])
      writeFileSync(join(directory, name), new Uint8Array(length).fill(fill));
    await this.ok("blockdev-add", { driver: "file", "node-name": name, filename: `$DIR/${name}`, ...options });
  }

  /** @returns what both answer, a refusal as `{ class, desc }` */
  async run(name: string, args: Arguments = {}): Promise<unknown> {
    const [theirs, mine] = await Promise.all([this.qemu.execute(name, args), this.ours.execute(name, args)]);
    assert.deepEqual(mine, theirs, `${name} ${JSON.stringify(args)}`);
    return mine;
  }

  async ok(name: string, args: Arguments = {}): Promise<void> {
    assert.deepEqual(await this.run(name, args), {}, `${name} ${JSON.stringify(args)}`);
  }

  async serve(): Promise<void> {
    await this.ok("nbd-server-start", { addr: { type: "unix", data: { path: "$DIR/nbd" } } });
  }
  async export(node: string, options: Arguments = {}): Promise<void> {
    await this.ok("block-export-add", { type: "nbd", id: node, "node-name": node, name: node, ...options });
  }

  /** qemu-io on an export of both, which says the same. */
  async io(name: string, ...commands: readonly string[]): Promise<readonly string[]> {
    return this.#io(name, false, commands);
  }
  async read(name: string, ...commands: readonly string[]): Promise<readonly string[]> {
    return this.#io(name, true, commands);
  }
  async #io(name: string, readOnly: boolean, commands: readonly string[]): Promise<readonly string[]> {
    const [theirs, mine] = await Promise.all([
      this.qemu.io(name, readOnly, commands),
      this.ours.io(name, readOnly, commands),
    ]);
    assert.deepEqual(mine, theirs, `${name}: ${commands.join("; ")}`);
    return mine;
  }

  async map(name: string, context: string): Promise<string> {
    const [theirs, mine] = await Promise.all([this.qemu.map(name, context), this.ours.map(name, context)]);
    assert.equal(mine, theirs, `${context} of ${name}`);
    return mine;
  }

  /** Until the job stands there, in both. */
  async status(job: string, status: string): Promise<void> {
    await Promise.all(
      [this.qemu, this.ours].map((daemon) =>
        daemon.until(`${job} ${status}`, async () => {
          const jobs = (await daemon.execute("query-jobs", {})) as readonly { id: string; status: string }[];
          return jobs.some((one) => one.id === job && one.status === status);
        }),
      ),
    );
  }

  /** Until the job is gone, in both; what was told of it since it came, which is the same. */
  async story(job: string): Promise<readonly string[]> {
    const daemons = [this.qemu, this.ours];
    const told = (daemon: Daemon): readonly string[] => tell(daemon.events, job);
    await Promise.all(daemons.map((daemon) => daemon.until(`the end of ${job}`, () => told(daemon).at(-1) === "null")));
    const [theirs, mine] = daemons.map(told);
    for (const { events } of daemons) events.splice(0, events.length, ...events.filter((event) => !isOf(event, job)));
    assert.deepEqual(mine, theirs, `the story of ${job}`);
    return mine;
  }

  /** Jobs and how they stand. How far one came that did not end well is not compared. */
  async jobs(): Promise<readonly Arguments[]> {
    const of = async (daemon: Daemon): Promise<readonly Arguments[]> => {
      const jobs = (await daemon.execute("query-jobs", {})) as readonly Arguments[];
      return jobs.map((job) => Object.fromEntries(Object.entries(job).filter(([name]) => !name.endsWith("-progress"))));
    };
    const [theirs, mine] = await Promise.all([of(this.qemu), of(this.ours)]);
    assert.deepEqual(mine, theirs, "jobs");
    return mine;
  }

  /** What a file holds, in both. */
  content(name: string): Buffer {
    const [theirs, mine] = [this.qemu, this.ours].map(({ directory }) => readFileSync(join(directory, name)));
    assert(mine.equals(theirs), `${name} is not the same`);
    return mine;
  }

  /** The dirty bitmaps of a node, with their checksums. */
  async bitmaps(node: string): Promise<readonly Arguments[]> {
    const of = async (daemon: Daemon): Promise<readonly Arguments[]> => {
      const nodes = (await daemon.execute("query-named-block-nodes", {})) as readonly Arguments[];
      const { "dirty-bitmaps": bitmaps = [] } = nodes.find((one) => one["node-name"] === node) ?? {};
      const named = (bitmaps as readonly Arguments[]).filter(({ name }) => name !== undefined);
      return Promise.all(
        named.map(async (bitmap) => ({
          ...bitmap,
          sum: await daemon.execute("x-debug-block-dirty-bitmap-sha256", { node, name: bitmap.name }),
        })),
      );
    };
    const [theirs, mine] = await Promise.all([of(this.qemu), of(this.ours)]);
    assert.deepEqual(mine, theirs, `bitmaps of ${node}`);
    return mine;
  }

  /** A node as queries show it, with all that is the same in both. @param differing names that are not compared */
  async node(name: string, differing: readonly string[] = []): Promise<Arguments> {
    const of = async (daemon: Daemon): Promise<Arguments> => {
      const nodes = (await daemon.execute("query-named-block-nodes", {})) as readonly Arguments[];
      const found = nodes.find((one) => one["node-name"] === name) ?? {};
      return Object.fromEntries(Object.entries(found).filter(([key]) => !differing.includes(key)));
    };
    const [theirs, mine] = await Promise.all([of(this.qemu), of(this.ours)]);
    assert.deepEqual(mine, theirs, `node ${name}`);
    return mine;
  }
}

function isOf({ data }: QmpClientEvent, job: string): boolean {
  const { id, device } = data as { readonly id?: string; readonly device?: string };
  return id === job || device === job;
}

/** Without the pairs of paused and running that drains make, and how many errors in a row. */
function tell(events: readonly QmpClientEvent[], job: string): readonly string[] {
  const story: string[] = [];
  for (const event of events.filter((one) => isOf(one, job))) {
    const { status, operation, action, error } = event.data as Readonly<Record<string, string | undefined>>;
    const line = status ?? [event.name, operation, action, error].filter((word) => word !== undefined).join(" ");
    if (line === "running" && story.at(-1) === "paused" && story.at(-2) === "running") story.splice(-1);
    else if (line !== story.at(-1)) story.push(line);
  }
  return story;
}
