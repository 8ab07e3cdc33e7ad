/**
 * The filter nodes of backups. There are none here: guests pass their disk's gate. But tools look them up by the name that they
 * gave, read the point in time of a job with `sync: none` through them, and find them in queries; so a job is listed as one
 * for as long as QEMU has it, and stands for the node that it backs up.
 */
import type { Runtime } from "@heirloom/runtime";
import type { BlockdevBackup } from "../generated/qmp-types.ts";
import { type GraphNode, nextNodeOrder } from "./graph-node.ts";

export class JobFilters {
  readonly #runtime: Runtime;
  /** By the id of the job. */
  readonly #filters = new Map<string, GraphNode>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** The job has started. @param name that was given, or made up */
  add(id: string, name: string, source: GraphNode, target: GraphNode): void {
    const job = this.#runtime.jobs.find((one) => one.id === id);
    this.#forgetEnded(); // or hundreds of jobs a second would pile up where nobody asks for them
    if (job === undefined) return; // it has ended already
    this.#filters.set(id, {
      name,
      order: nextNodeOrder(),
      options: { driver: "copy-before-write", "node-name": name, file: source.name, target: target.name },
      disk: source.disk,
      children: [source, target],
      owned: [],
      inner: true,
      followsParent: false,
      writers: source.writers,
      owner: "monitor",
      filename: source.filename,
      file: source.file,
      job,
    });
  }

  /** Those of jobs that have ended are gone. */
  list(): GraphNode[] {
    this.#forgetEnded();
    return [...this.#filters.values()];
  }

  #forgetEnded(): void {
    const there = new Set(this.#runtime.jobs.filter(({ info }) => info.status !== "concluded").map(({ id }) => id));
    for (const id of this.#filters.keys()) if (!there.has(id)) this.#filters.delete(id);
  }

  find(name: string): GraphNode | undefined {
    return this.list().find((filter) => filter.name === name);
  }
}

/** What makes a job's point in time readable by way of its filter: a job that copies by itself is not read. */
export function isReadable({
  sync,
  "filter-node-name": name,
}: Pick<BlockdevBackup, "sync" | "filter-node-name">): boolean {
  return sync === "none" && name !== undefined;
}
