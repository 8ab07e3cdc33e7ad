import type { JournalOptions, Runtime } from "@heirloom/runtime";
import { NodeGraph } from "../graph/node-graph.ts";
import { ThrottleGroups } from "../graph/throttle-groups.ts";
import type { CommandContext, Emit, Exclusive } from "./context.ts";
import { CreateJobs } from "./create-jobs.ts";
import { ObjectStore } from "./object-store.ts";

/** @param journal of every image that is opened for writing; undefined: none keeps bitmaps, as in QEMU */
export function makeContext(runtime: Runtime, emit: Emit, journal: JournalOptions | undefined): CommandContext {
  const groups = new ThrottleGroups();
  const objects = new ObjectStore(groups);
  return {
    runtime,
    graph: new NodeGraph(runtime, groups, objects, journal),
    objects,
    createJobs: new CreateJobs(emit),
    emit,
    exclusive: makeExclusive(),
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
