/**
 * One attached disk: who uses it, and when it may go.
 *
 *   open       use, unuse, detach (refused while anybody uses it, unless it is forced)
 *   detaching  unuse until nobody is left, then closed comes from the engine
 *   closed     -
 */
import { setup } from "xstate";
import { refusal, type Refusal } from "../errors.ts";
import { defineMachine, type Machine, type MachineSnapshot } from "./machine.ts";

export interface DiskUser {
  readonly kind: "job" | "view" | "handle" | "export";
  readonly id: string;
}

export interface DiskContext {
  readonly name: string;
  readonly users: readonly DiskUser[];
}

export type DiskEvent =
  | { readonly type: "use"; readonly user: DiskUser }
  | { readonly type: "unuse"; readonly user: DiskUser }
  /** `force` ends whoever uses it. */
  | { readonly type: "detach"; readonly force: boolean }
  | { readonly type: "closed" };

export type DiskEffect =
  /** Cancel the job, fail the view, take the handle or the export away; `unuse` answers. */
  | { readonly type: "end"; readonly user: DiskUser }
  /** Nobody uses it: threads let go, the node is closed; `closed` answers. */
  | { readonly type: "close" };

function isUser(context: DiskContext, event: DiskEvent): boolean {
  return (
    (event.type === "use" || event.type === "unuse") &&
    context.users.some((user) => user.kind === event.user.kind && user.id === event.user.id)
  );
}

const disk = setup({
  types: { context: {} as DiskContext, events: {} as DiskEvent, input: {} as { readonly name: string } },
  actions: { effects: (_scope, _effects: readonly DiskEffect[]) => {} },
  guards: {
    "new user": ({ context, event }) => !isUser(context, event),
    "a user": ({ context, event }) => isUser(context, event),
    "last user": ({ context, event }) => isUser(context, event) && context.users.length === 1,
    "nobody uses it": ({ context }) => context.users.length === 0,
    force: ({ event }) => event.type === "detach" && event.force,
  },
});

const addUser = disk.assign({
  users: ({ context, event }) => (event.type === "use" ? [...context.users, event.user] : context.users),
});
const removeUser = disk.assign({
  users: ({ context, event }) =>
    event.type === "unuse"
      ? context.users.filter((user) => user.kind !== event.user.kind || user.id !== event.user.id)
      : context.users,
});
const endUsers = disk.enqueueActions(({ context, enqueue }) => {
  enqueue({ type: "effects", params: context.users.map((user) => ({ type: "end", user })) });
});
const close = disk.enqueueActions(({ enqueue }) => {
  enqueue({ type: "effects", params: [{ type: "close" }] });
});

const machine = disk.createMachine({
  id: "disk",
  context: ({ input }) => ({ name: input.name, users: [] }),
  initial: "open",
  states: {
    open: {
      on: {
        use: { guard: "new user", target: "open", actions: addUser },
        unuse: { guard: "a user", target: "open", actions: removeUser },
        detach: [
          { guard: "nobody uses it", target: "detaching", actions: close },
          { guard: "force", target: "detaching", actions: endUsers },
        ],
      },
    },
    detaching: {
      on: {
        unuse: [
          { guard: "last user", target: "detaching", actions: [removeUser, close] },
          { guard: "a user", target: "detaching", actions: removeUser },
        ],
        closed: { guard: "nobody uses it", target: "closed" },
      },
    },
    closed: { type: "final" },
  },
});

function explain(snapshot: MachineSnapshot<DiskContext>, event: DiskEvent, allowed: readonly string[]): Refusal {
  const { context, state } = snapshot;
  const fields = { disk: context.name, state, event: event.type };
  if (event.type === "detach" && state === "open") {
    const users = context.users.map((user) => `${user.kind} '${user.id}'`);
    return refusal("ERR_DISK_IN_USE", `Disk '${context.name}' is in use by ${users.join(", ")}`, { ...fields, users });
  }
  return refusal("ERR_DISK_STATE", `Disk '${context.name}' in state '${state}' cannot accept '${event.type}'`, {
    ...fields,
    allowed,
  });
}

export const diskMachine: Machine<{ readonly name: string }, DiskContext, DiskEvent, DiskEffect> = defineMachine(
  machine,
  explain,
);
