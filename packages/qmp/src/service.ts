/**
 * A runtime spoken to over QMP: the commands, the nodes and objects they make, and the monitors that clients speak to.
 *
 * The runtime, and all that works with it, is loaded when the first command needs it: a client that only looks who is there
 * is answered at once.
 *
 * @example
 * const service = new QmpService({ runtime: createRuntime(), quit: () => void service.close() });
 * const monitor = service.addMonitor();
 * const server = await listenOnUnixSocket("/run/backup.qmp", (socket) => monitor.accept(socket));
 */
import type { Duplex } from "node:stream";
import type { JournalOptions, Runtime, RuntimeEvent } from "@heirloom/runtime";
import type { CommandContext } from "./commands/context.ts";
import { monitorHandlers } from "./commands/monitor-handlers.ts";
import type { Adopted } from "./commands/make-context.ts";
import type { VersionInfo } from "./generated/qmp-types.ts";
import { CommandSet, type Handlers } from "./server/command-set.ts";
import { Monitor, type MonitorLog } from "./server/monitor.ts";
import { commands as table, events } from "./table/command-table.ts";
import { qmpVersion } from "./version.ts";
import type { Writable } from "./wire/json-value.ts";

export interface QmpServiceOptions {
  /** What commands are carried out on; a function is called when the first of them needs it. */
  readonly runtime: Runtime | (() => Promise<Runtime>);
  /** Keeps persistent bitmaps of raw images; without it they are refused, as in QEMU. */
  readonly journal?: JournalOptions;
  /** Called by `quit`, once the command was accepted; its answer goes out all the same if monitors are closed last. */
  readonly quit: () => void;
  readonly log?: MonitorLog;
  /** What `query-version` says; by default the QEMU whose protocol this is, and the package's own version. */
  readonly version?: VersionInfo;
  /** Disks and a server that the runtime's program has brought. */
  readonly adopted?: Adopted;
  /** Commands that are not of this package's to carry out: character devices. */
  readonly handlers?: Partial<Handlers>;
}

export interface MonitorOptions {
  /** Answers on several lines, for people. */
  readonly pretty?: boolean;
}

/** More clients with monitors of their own are turned away. */
const monitorsMax = 64;
/** A copy-before-write node is a disk of that name, and its view is one of that disk. */
function brokenPointInTime(data: RuntimeEvent["data"]): Writable {
  const { disk, reason, error } = data as { readonly disk: string; readonly reason: string; readonly error: string };
  return {
    device: "",
    "node-name": disk,
    operation: reason === "source-unreadable" ? "read" : "write",
    action: "ignore",
    nospace: reason === "spill-full",
    reason: error,
  };
}

export class QmpService {
  readonly commands: CommandSet;
  readonly #options: QmpServiceOptions;
  readonly #version: VersionInfo;
  readonly #monitors = new Set<Monitor>();
  readonly #log: MonitorLog;
  #loaded: Promise<CommandContext> | undefined;
  #stopListening: () => void = () => {};

  constructor(options: QmpServiceOptions) {
    this.#options = options;
    this.#version = options.version ?? qmpVersion;
    this.#log = options.log ?? (() => {});
    const immediate = { ...monitorHandlers(this.#version, table, options.quit), ...options.handlers };
    this.commands = new CommandSet(table, immediate, async () => {
      const { contextHandlers } = await import("./commands/context-handlers.ts");
      return contextHandlers(await this.context());
    });
  }

  /** What commands work on; made when it is first asked for. */
  context(): Promise<CommandContext> {
    this.#loaded ??= this.#load();
    return this.#loaded;
  }

  addMonitor(options: MonitorOptions = {}): Monitor {
    const { commands } = this;
    const monitor = new Monitor({ commands, version: this.#version, pretty: options.pretty ?? false }, this.#log);
    this.#monitors.add(monitor);
    return monitor;
  }

  /**
   * A client that shares no monitor with others: any number of people's commands at once. A socket must not be read before
   * (`monitorSocketOptions`).
   */
  accept(stream: Duplex): void {
    if (this.#monitors.size >= monitorsMax) {
      stream.destroy();
      return;
    }
    const monitor = this.addMonitor();
    stream.once("close", () => this.#monitors.delete(monitor));
    monitor.accept(stream);
  }

  /** Lets clients go; what was answered is sent before. The runtime is whoever made it to close. */
  async close(): Promise<void> {
    this.#stopListening();
    await Promise.all([...this.#monitors].map((monitor) => monitor.close()));
    this.#monitors.clear();
  }

  async #load(): Promise<CommandContext> {
    const { runtime: given } = this.#options;
    const [{ makeContext }, runtime] = await Promise.all([
      import("./commands/make-context.ts"),
      typeof given === "function" ? given() : given,
    ]);
    this.#stopListening = runtime.onEvent((event) => this.#hear(event));
    return makeContext(runtime, (name, data) => this.#tell(name, Date.now(), data), this.#options);
  }

  /** Of what the runtime tells, what QMP has. */
  #hear({ name, at, data }: RuntimeEvent): void {
    if (name === "VIEW_BROKEN") this.#tell("BLOCK_IO_ERROR", at, brokenPointInTime(data));
    else if (name === "JOURNAL_FAILED") this.#tell(name, at, journalFailed(data));
    else if (Object.hasOwn(events, name)) this.#tell(name, at, data as Writable);
  }

  #tell(name: string, at: number, data: Writable): void {
    for (const monitor of this.#monitors) monitor.event({ name, at, data });
  }
}

function journalFailed({ disk, bitmaps, error }: RuntimeEvent["data"]): Writable {
  return { "node-name": disk, bitmaps, reason: error } as Writable;
}
