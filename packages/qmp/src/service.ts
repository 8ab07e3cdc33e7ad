/**
 * A runtime spoken to over QMP: the commands, the nodes and objects they make, and the monitors that clients speak to.
 *
 * @example
 * const service = new QmpService({ runtime: createRuntime(), quit: () => void service.close() });
 * const monitor = service.addMonitor();
 * const server = await listenOnUnixSocket("/run/backup.qmp", (socket) => monitor.accept(socket));
 */
import type { Runtime, RuntimeEvent } from "@heirloom/runtime";
import { backupHandlers } from "./commands/backup-handlers.ts";
import { bitmapHandlers } from "./commands/bitmap-handlers.ts";
import { type CommandContext, makeExclusive } from "./commands/context.ts";
import { CreateJobs } from "./commands/create-jobs.ts";
import { jobHandlers } from "./commands/job-handlers.ts";
import { monitorHandlers } from "./commands/monitor-handlers.ts";
import { nodeHandlers } from "./commands/node-handlers.ts";
import { objectHandlers } from "./commands/object-handlers.ts";
import { ObjectStore } from "./commands/object-store.ts";
import type { VersionInfo } from "./generated/qmp-types.ts";
import { NodeGraph } from "./graph/node-graph.ts";
import { ThrottleGroups } from "./graph/throttle-groups.ts";
import { CommandSet, type Handlers } from "./server/command-set.ts";
import { Monitor, type MonitorLog } from "./server/monitor.ts";
import { commands as table, events } from "./table/command-table.ts";
import type { Writable } from "./wire/json-value.ts";
import { qmpVersion } from "./version.ts";

export interface QmpServiceOptions {
  readonly runtime: Runtime;
  /** Called by `quit`, once the command was accepted; its answer goes out all the same if monitors are closed last. */
  readonly quit: () => void;
  readonly log?: MonitorLog;
  /** What `query-version` says; by default the QEMU whose protocol this is, and the package's own version. */
  readonly version?: VersionInfo;
  /** Commands of more than this package knows how to carry out: exports, character devices. */
  readonly handlers?: (context: CommandContext) => Partial<Handlers>;
}

export interface MonitorOptions {
  /** Answers on several lines, for people. */
  readonly pretty?: boolean;
}

export class QmpService {
  readonly graph: NodeGraph;
  readonly objects: ObjectStore;
  readonly commands: CommandSet;
  readonly #context: CommandContext;
  readonly #monitors = new Set<Monitor>();
  readonly #log: MonitorLog;
  readonly #stopListening: () => void;

  constructor(options: QmpServiceOptions) {
    const { runtime, quit, version = qmpVersion } = options;
    const groups = new ThrottleGroups();
    this.#log = options.log ?? (() => {});
    this.graph = new NodeGraph(runtime, groups);
    this.objects = new ObjectStore(groups);
    const emit: CommandContext["emit"] = (name, data) => this.#tell(name, Date.now(), data as unknown as Writable);
    this.#context = {
      runtime,
      graph: this.graph,
      objects: this.objects,
      createJobs: new CreateJobs(emit),
      version,
      emit,
      exclusive: makeExclusive(),
      quit,
    };
    this.commands = this.#carryOut(options);
    this.#stopListening = runtime.onEvent((event) => this.#hear(event));
  }

  get context(): CommandContext {
    return this.#context;
  }

  addMonitor(options: MonitorOptions = {}): Monitor {
    const { commands } = this;
    const monitor = new Monitor({ commands, version: this.#context.version, pretty: options.pretty ?? false }, this.#log);
    this.#monitors.add(monitor);
    return monitor;
  }

  /** Lets clients go; what was answered is sent before. */
  async close(): Promise<void> {
    this.#stopListening();
    await Promise.all([...this.#monitors].map((monitor) => monitor.close()));
    this.#monitors.clear();
  }

  #carryOut(options: QmpServiceOptions): CommandSet {
    const context = this.#context;
    const handlers: Partial<Handlers> = {
      ...monitorHandlers(context, () => known),
      ...nodeHandlers(context),
      ...bitmapHandlers(context),
      ...backupHandlers(context),
      ...jobHandlers(context),
      ...objectHandlers(context),
      ...options.handlers?.(context),
    };
    const known = Object.fromEntries(
      Object.entries(table).filter(([name]) => name === "qmp_capabilities" || Object.hasOwn(handlers, name)),
    );
    return new CommandSet(known, handlers);
  }

  /** Of what the runtime tells, what QMP has. */
  #hear({ name, at, data }: RuntimeEvent): void {
    if (Object.hasOwn(events, name)) this.#tell(name, at, data as Writable);
  }

  #tell(name: string, at: number, data: Writable): void {
    for (const monitor of this.#monitors) monitor.event({ name, at, data });
  }
}
