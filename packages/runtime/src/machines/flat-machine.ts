/**
 * Steps of a flat XState machine, without XState's interpreter.
 *
 * The definition is XState's, and so are its diagrams and its enumeration of paths. A step of its interpreter, which serves
 * hierarchies, histories, actors and raised events, takes 8 us, 24 while it is cold, and leaves 15 KiB of garbage, which the
 * collector takes from guests' cores; a backup takes a dozen of them. A flat machine (one state name at a time, actions
 * that only assign and emit) needs none of that: its edges are read from the definition once, and a step takes 3 us, 9 while
 * it is cold. A test holds both to the same answers in all situations that can be reached.
 *
 * What a definition may use is checked when it is read: anything else is an error of the program that made it.
 */
import type { AnyStateMachine, AnyStateNode } from "xstate";
import { invariant } from "../errors.ts";
import type { MachineSnapshot, Step } from "./machine.ts";

/** The one named action of every machine; its parameters are a list of effects. */
export const effectsAction = "effects";

interface Scope {
  readonly context: object;
  readonly event: { readonly type: string };
}
type Guard = (scope: Scope) => boolean;
/** Returns the context after it. */
type Act = (scope: Scope, effects: unknown[]) => object;

interface Edge {
  readonly guard: Guard | undefined;
  /** Undefined: the state stays, and is not entered again. */
  readonly target: FlatState | undefined;
  readonly acts: readonly Act[];
}

interface FlatState {
  readonly name: string;
  readonly final: boolean;
  readonly entry: readonly Act[];
  readonly on: Map<string, readonly Edge[]>;
  always: readonly Edge[];
}

export class FlatMachine<Input, Context extends object, Event extends { readonly type: string }, Effect> {
  readonly #states = new Map<string, FlatState>();
  readonly #initial: FlatState;
  readonly #makeContext: (input: Input) => Context;

  /** @throws an invariant for a definition that is not flat, or does more than assign and emit effects */
  constructor(logic: AnyStateMachine) {
    const { root } = logic;
    const nodes = Object.values(root.states) as AnyStateNode[];
    invariant(
      root.entry.length + root.exit.length === 0 && root.transitions.size === 0,
      "a machine's root does nothing",
    );
    for (const node of nodes) {
      invariant(node.type === "atomic" || node.type === "final", "a machine is flat");
      invariant(
        node.exit.length === 0 && node.invoke.length === 0,
        "a state does nothing on its exit, and invokes nothing",
      );
      const entry = node.entry.map(actOf);
      this.#states.set(node.key, { name: node.key, final: node.type === "final", entry, on: new Map(), always: [] });
    }
    for (const node of nodes) {
      const state = this.#state(node.key);
      const read = (edges: readonly XStateEdge[]): readonly Edge[] =>
        edges.map((edge) => this.#edge(logic, state, edge));
      state.always = read((node.always ?? []) as readonly XStateEdge[]);
      for (const [event, edges] of node.transitions) state.on.set(event, read(edges as readonly XStateEdge[]));
    }
    const [first] = root.initial.target as readonly AnyStateNode[];
    this.#initial = this.#state(first.key);
    const { context } = logic.config as { readonly context?: unknown };
    this.#makeContext = (input) =>
      (typeof context === "function"
        ? (context as (scope: { input: Input }) => Context)({ input })
        : context) as Context;
  }

  initial(input: Input): Step<Context, Effect> {
    const event = { type: "init" };
    const effects: unknown[] = [];
    const context = perform(this.#initial.entry, this.#makeContext(input), event, effects);
    return this.#settle(this.#initial, context, event, effects);
  }

  can({ state, context }: MachineSnapshot<Context>, event: Event): boolean {
    const edges = this.#state(state).on.get(event.type);
    return edges !== undefined && choose(edges, context, event) !== undefined;
  }

  /** Must be asked only for an event that `can` allows. */
  step({ state: name, context: before }: MachineSnapshot<Context>, event: Event): Step<Context, Effect> {
    const state = this.#state(name);
    const edge = choose(state.on.get(event.type) ?? [], before, event);
    invariant(edge !== undefined, `'${name}' handles '${event.type}'`);
    const effects: unknown[] = [];
    const context = follow(edge, before, event, effects);
    return this.#settle(edge.target ?? state, context, event, effects);
  }

  /** Follows what leads on by itself. */
  #settle(from: FlatState, before: object, event: Scope["event"], effects: unknown[]): Step<Context, Effect> {
    let state = from;
    let context = before;
    for (;;) {
      const edge = choose(state.always, context, event);
      if (edge === undefined) break;
      context = follow(edge, context, event, effects);
      state = edge.target ?? state;
    }
    const snapshot = { state: state.name, context: context as Context, done: state.final };
    return { snapshot, effects: effects as Effect[] };
  }

  #state(name: string): FlatState {
    const state = this.#states.get(name);
    invariant(state !== undefined, `'${name}' is a state of the machine`);
    return state;
  }

  #edge(logic: AnyStateMachine, source: FlatState, edge: XStateEdge): Edge {
    const [target] = edge.target ?? [];
    const acts = edge.actions.map(actOf);
    if (target === undefined) return { guard: guardOf(logic, edge.guard), target: undefined, acts };
    const state = this.#state(target.key);
    // As in XState: a state that is its own target is entered again only where the definition says so.
    const enters = state !== source || edge.reenter;
    return { guard: guardOf(logic, edge.guard), target: state, acts: enters ? [...acts, ...state.entry] : acts };
  }
}

/** The first edge whose guard allows it. */
function choose(edges: readonly Edge[], context: object, event: Scope["event"]): Edge | undefined {
  for (const edge of edges) if (edge.guard === undefined || edge.guard({ context, event })) return edge;
  return undefined;
}

function follow(edge: Edge, context: object, event: Scope["event"], effects: unknown[]): object {
  return perform(edge.acts, context, event, effects);
}

function perform(acts: readonly Act[], before: object, event: Scope["event"], effects: unknown[]): object {
  let context = before;
  for (const act of acts) context = act({ context, event }, effects);
  return context;
}

/** What this reads of XState's transitions and actions; the test that compares the two holds it to that. */
interface XStateEdge {
  readonly target: readonly AnyStateNode[] | undefined;
  readonly guard?: unknown;
  readonly reenter: boolean;
  readonly actions: readonly unknown[];
}
type Assignment = ((scope: Scope) => object) | Readonly<Record<string, unknown>>;
type Collect = (scope: Scope & { readonly enqueue: Enqueue }) => void;
interface Enqueue {
  (action: unknown): void;
  readonly assign: (assignment: Assignment) => void;
}

function guardOf(logic: AnyStateMachine, guard: unknown): Guard | undefined {
  if (guard === undefined) return undefined;
  invariant(typeof guard === "string", "a guard has a name, which diagrams show");
  const check = logic.implementations.guards[guard] as unknown;
  invariant(
    typeof check === "function" && !("check" in check),
    `the guard '${guard}' is a function of context and event`,
  );
  return check as Guard;
}

function actOf(action: unknown): Act {
  if (typeof action === "function" && "assignment" in action) return assigning(action.assignment as Assignment);
  if (typeof action === "function" && "collect" in action) return collecting(action.collect as Collect);
  invariant(isEffects(action), `an action assigns, enqueues, or is '${effectsAction}'`);
  return ({ context }, effects) => {
    effects.push(...action.params);
    return context;
  };
}

function isEffects(action: unknown): action is { readonly params: readonly unknown[] } {
  return (
    typeof action === "object" &&
    action !== null &&
    (action as { type?: unknown }).type === effectsAction &&
    Array.isArray((action as { params?: unknown }).params)
  );
}

function assigning(assignment: Assignment): Act {
  return (scope) => {
    if (typeof assignment === "function") return { ...scope.context, ...assignment(scope) };
    const changed: Record<string, unknown> = { ...scope.context };
    for (const [key, value] of Object.entries(assignment)) {
      changed[key] = typeof value === "function" ? (value as (scope: Scope) => unknown)(scope) : value;
    }
    return changed;
  };
}

/** All of it sees the context as it was at its begin; what it enqueues is done in order, each on the context before it. */
function collecting(collect: Collect): Act {
  return (scope, effects) => {
    const acts: Act[] = [];
    const enqueue = (action: unknown): void => void acts.push(actOf(action));
    enqueue.assign = (assignment: Assignment): void => void acts.push(assigning(assignment));
    collect({ ...scope, enqueue });
    return perform(acts, scope.context, scope.event, effects);
  };
}
