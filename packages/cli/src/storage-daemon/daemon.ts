/**
 * The daemon: what its options make, and how it ends. Nothing is started before it is used: no thread until a node is opened.
 */
import type { JournalOptions, Runtime } from "@heirloom/runtime";
import { type Handlers, QmpError, QmpService, readArguments, commands, nbdServerOptions } from "@heirloom/qmp";
import { readOption } from "../keyval/keyval.ts";
import type { MetricsServer } from "../metrics/metrics-server.ts";
import type { Option } from "./arguments.ts";
import { fromBackend, readChardev } from "./chardev-options.ts";
import { Chardevs } from "./chardevs.ts";
import type { Log } from "./log.ts";
import { monitorOptions } from "./monitor-options.ts";
import { packageVersion } from "./version-text.ts";

/** The process ends this long after it was told to, whatever hangs. */
export const shutdownDeadlineMs = 8000;

export class Daemon {
  /** Loaded when the first command needs it. */
  #runtime: Promise<Runtime> | undefined;
  readonly #service: QmpService;
  readonly #chardevs = new Chardevs();
  readonly #quit: () => void;
  readonly #monitors = new Set<string>();
  readonly #metrics: MetricsServer[] = [];
  readonly #log: Log;

  /** @param quit called when a client says so @param journal of images; without it none keeps bitmaps */
  constructor(log: Log, quit: () => void, journal?: JournalOptions) {
    this.#quit = quit;
    this.#log = log;
    this.#service = new QmpService({
      runtime: () => (this.#runtime ??= makeRuntime()),
      quit: () => this.#quit(),
      log: (message) => log.info(message),
      handlers: this.#handlers(),
      ...(journal === undefined ? {} : { journal }),
    });
  }

  /** Options of the second pass, one by one. @throws QmpError */
  async apply({ name, value }: Option): Promise<void> {
    switch (name) {
      case "blockdev":
        await this.#run("blockdev-add", value, "driver");
        return;
      case "object":
        await this.#run("object-add", value, "qom-type");
        return;
      case "export":
        await this.#run("block-export-add", value, "type");
        return;
      case "chardev": {
        const { id, options } = readChardev(value);
        await this.#chardevs.add(id, options);
        return;
      }
      case "metrics":
        await this.#serveMetrics(value);
        return;
      case "monitor":
        this.#addMonitor(value);
        return;
      case "nbd-server":
        await this.#run("nbd-server-start", value, undefined, nbdServerOptions);
        return;
    }
  }

  /** All options are applied. */
  open(): void {
    this.#chardevs.open();
  }

  /** Something was asked of it that threads do. */
  get hasThreads(): boolean {
    return this.#runtime !== undefined;
  }

  /** Jobs are cancelled, their bitmaps reclaimed; monitors hear of it, and go last. */
  async close(): Promise<void> {
    this.#chardevs.close();
    for (const server of this.#metrics) server.close();
    await (await this.#runtime)?.close();
    await this.#service.close();
  }

  async #serveMetrics(text: string): Promise<void> {
    const { parseMetricsAddress, serveMetrics } = await import("../metrics/metrics-server.ts");
    const address = parseMetricsAddress(text);
    const server = await serveMetrics(address, packageVersion(), () => this.#runtime);
    this.#metrics.push(server);
    if ("port" in address && address.port === 0) this.#log.info(`metrics on ${server.where}`);
  }

  /** The command of the same meaning. @param type where the command line's options differ from the command's arguments */
  async #run(command: string, text: string, impliedKey?: string, type = commands[command].arguments): Promise<void> {
    const { value, notation } = readOption(text, impliedKey);
    const args = readArguments(type, value, notation);
    await this.#service.commands.carryOut(command, args);
  }

  #addMonitor(text: string): void {
    const { value, notation } = readOption(text, "chardev");
    const options = readArguments(monitorOptions, value, notation) as {
      readonly chardev: string;
      readonly mode?: string;
      readonly pretty?: boolean;
      readonly id?: string;
    };
    if (options.mode === "readline") throw new QmpError("Only QMP is supported");
    const id = options.id ?? `compat_monitor${this.#monitors.size}`;
    if (this.#monitors.has(id)) throw new QmpError(`Duplicate ID '${id}' for mon`);
    const monitor = this.#service.addMonitor({ pretty: options.pretty ?? false });
    this.#chardevs.attach(options.chardev, monitor);
    this.#monitors.add(id);
  }

  #handlers(): Partial<Handlers> {
    return {
      "query-chardev": () => this.#chardevs.list(),
      "chardev-add": async ({ id, backend }) => {
        await this.#chardevs.add(id, fromBackend(backend));
        return {};
      },
      "chardev-remove": ({ id }) => {
        this.#chardevs.remove(id);
        return {};
      },
    };
  }
}

async function makeRuntime(): Promise<Runtime> {
  const { createRuntime } = await import("@heirloom/runtime");
  return createRuntime({ backupOfTargets: false });
}
