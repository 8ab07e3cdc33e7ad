import type { Disk, DiskServer, JournalOptions, Runtime } from "@heirloom/runtime";
import { NodeGraph } from "../graph/node-graph.ts";
import { ThrottleGroups } from "../graph/throttle-groups.ts";
import type { CommandContext, Emit, Exclusive } from "./context.ts";
import { CreateJobs } from "./create-jobs.ts";
import { ObjectStore } from "./object-store.ts";

/** What a program serves already: nodes and exports for its clients, and its own to take away. */
export interface Adopted {
  readonly disks: ReadonlyArray<{
    readonly disk: Disk;
    readonly driver: string;
    /** Where its image lies, if it has one. */
    readonly file: string | undefined;
  }>;
  readonly server: DiskServer;
}

export interface ContextOptions {
  /** Of every image that is opened for writing; undefined: none keeps bitmaps, as in QEMU. */
  readonly journal?: JournalOptions | undefined;
  readonly adopted?: Adopted | undefined;
}

export function makeContext(runtime: Runtime, emit: Emit, { journal, adopted }: ContextOptions): CommandContext {
  const groups = new ThrottleGroups();
  const objects = new ObjectStore(groups);
  const graph = new NodeGraph(runtime, groups, objects, journal);
  for (const { disk, driver, file } of adopted?.disks ?? []) graph.adopt(disk, driver, file);
  const exclusive = makeExclusive();
  runtime.onEvent(({ name, data }) => {
    if (name === "JOB_STATUS_CHANGE" && data.status === "concluded") graph.locks.afterJob(exclusive);
  });
  return {
    runtime,
    graph,
    adoptedServer: adopted?.server,
    objects,
    createJobs: new CreateJobs(emit),
    emit,
    exclusive,
  };
}

function makeExclusive(): Exclusive {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const result = last.then(work);
    last = result.catch(() => {});
    return result;
  };
}
