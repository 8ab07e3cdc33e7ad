/** What is ours alone: the state machines behind everything, with the history that led to their state. */
import {
  any,
  bool,
  command,
  type CommandTable,
  enumeration,
  int,
  list,
  optional,
  required,
  str,
  struct,
} from "../schema/type.ts";

const kind = enumeration(
  "HeirloomActorKind",
  ["disk", "bitmap", "job", "group", "export", "transaction", "pool"],
  "what an actor stands for",
);

const step = struct("HeirloomTransition", "a change of state", {
  at: required(int, "milliseconds since the epoch"),
  event: required(str, "what happened; `init` is the beginning"),
  from: required(str, "state before; empty at the beginning"),
  to: required(str, "state after"),
  reason: optional(str, "why, or for whom"),
});

const wait = struct("HeirloomWait", "what a resumable job that was cut off waits for", {
  target: required(str, "what its target was called: a path, or the name of a node"),
  "frozen-at": required(int, "its point in time, milliseconds since the epoch"),
  until: required(int, "it is reclaimed then, milliseconds since the epoch"),
});

const actor = struct("HeirloomActor", "a state machine that runs, or has run", {
  kind: required(kind, "what it stands for"),
  name: required(str, "of the disk, bitmap, job, group, export or transaction"),
  node: optional(str, "the node that it belongs to"),
  state: required(str, "its state"),
  ended: required(bool, "it is over, and kept to be asked about"),
  because: optional(str, "of a job: why it copies what it copies"),
  target: optional(str, "of a job: where it writes"),
  bitmap: optional(str, "of a job: the bitmap that it has"),
  sync: optional(str, "of a job: its mode"),
  "bitmap-mode": optional(str, "of a job: what becomes of its bitmap"),
  waits: optional(wait, "of a resumable job that was cut off"),
  context: required(any, "what the machine keeps besides; its members are not promised"),
  history: required(list(step), "the last changes, oldest first"),
});

export const actorCommands: CommandTable = {
  "x-heirloom-query-actors": command({
    doc: "State and history of every actor, those of the last jobs that were dismissed included.",
    result: list(actor),
    features: ["unstable"],
    since: "Heirloom's own",
  }),
};
