/** What those who carry commands out work on. */
import type { DiskServer, Runtime } from "@heirloom/runtime";
import type { QmpEvents } from "../generated/qmp-types.ts";
import type { NodeGraph } from "../graph/node-graph.ts";
import type { CreateJobs } from "./create-jobs.ts";
import type { ObjectStore } from "./object-store.ts";

export interface CommandContext {
  readonly runtime: Runtime;
  readonly graph: NodeGraph;
  readonly objects: ObjectStore;
  readonly createJobs: CreateJobs;
  /** An NBD server that was there before. */
  readonly adoptedServer: DiskServer | undefined;
  /** Tells an event to every monitor. */
  readonly emit: Emit;
  /** One command at a time that changes what there is, over all monitors. */
  readonly exclusive: Exclusive;
}

export type Emit = <Name extends keyof QmpEvents>(name: Name, data: QmpEvents[Name]) => void;

/** Carries work out when what was asked for before is over. */
export type Exclusive = <Value>(work: () => Promise<Value>) => Promise<Value>;
