/**
 * What the rest of the runtime sees of a state machine: a pure function from (snapshot, event) to (snapshot, effects).
 *
 * XState interprets the definition; nothing here runs an effect. Effects leave as data through one action, `effects`,
 * whose parameters are the list; the coordinator carries them out. Machines are flat (one state name at a time), without
 * invoke, timers and spawned actors, so every path can be enumerated, tested and drawn.
 */
import { createActor, createMachine, type AnyStateMachine, type SnapshotFrom } from "xstate";
import { invariant, type Refusal } from "../errors.ts";

/** An event or an effect: a discriminated union over `type`. */
export interface Tagged {
  readonly type: string;
}

/** A state with its data at one instant. Immutable. */
export interface MachineSnapshot<Context> {
  readonly state: string;
  readonly context: Context;
  /** A final state: no event is accepted any more. */
  readonly done: boolean;
  /** XState's own snapshot, for its graph functions. */
  readonly raw: SnapshotFrom<AnyStateMachine>;
}

/** What a transition does, from a pure function of context and event: effects in order, and changes of the context. */
export interface Behaviour<Context, Effect> {
  readonly effects?: readonly Effect[];
  readonly change?: Partial<Context>;
}

export interface Step<Context, Effect> {
  readonly snapshot: MachineSnapshot<Context>;
  readonly effects: readonly Effect[];
}

export interface Machine<Input, Context, Event extends Tagged, Effect extends Tagged> {
  readonly name: string;
  /** All states, in the order of the definition. */
  readonly states: readonly string[];
  /** All events that some state handles, in the order of their first use. */
  readonly events: readonly string[];
  /** The XState machine: for diagrams and for enumerating paths. */
  readonly logic: AnyStateMachine;
  initial(input: Input): Step<Context, Effect>;
  /** Whether the present state handles the event, its guards included. */
  can(snapshot: MachineSnapshot<Context>, event: Event): boolean;
  /** Must be asked only for an event that `can` allows. */
  step(snapshot: MachineSnapshot<Context>, event: Event): Step<Context, Effect>;
  /** Why the event is refused; meaningful only where `can` says no. */
  explain(snapshot: MachineSnapshot<Context>, event: Event): Refusal;
  /** Events that a state has a transition for, guarded or not. */
  allowed(state: string): readonly string[];
}

/** The one named action of every machine. */
export const effectsAction = "effects";

function snapshotOf<Context>(raw: SnapshotFrom<AnyStateMachine>): MachineSnapshot<Context> {
  invariant(typeof raw.value === "string", "a machine is flat");
  return { state: raw.value, context: raw.context as Context, done: raw.status !== "active", raw };
}

function effectsOf<Effect>(actions: readonly CollectedAction[]): readonly Effect[] {
  return actions.flatMap((action) => {
    invariant(
      action.type === effectsAction,
      `the only action of a machine is "${effectsAction}", not "${action.type}"`,
    );
    return action.params as readonly Effect[];
  });
}

interface CollectedAction {
  readonly type: string;
  readonly params?: unknown;
}

/**
 * XState's own `transition` and `initialTransition` make an actor with a system, and with it an initial snapshot that nobody
 * wants, for each call: 35 us instead of the few that a step takes, and 14 KiB of garbage that lives through several
 * collections. A machine that spawns nothing and sends nothing needs a scope that only collects actions, and one serves all
 * steps, which are synchronous.
 */
function collectingScope(): {
  readonly scope: Parameters<AnyStateMachine["transition"]>[2];
  /** Actions since the last call. */
  take(): readonly CollectedAction[];
} {
  const self = createActor(createMachine({}));
  let actions: CollectedAction[] = [];
  return {
    scope: {
      self,
      system: self.system,
      id: "",
      sessionId: "",
      logger: () => {},
      defer: () => {},
      emit: () => {},
      stopChild: () => {},
      actionExecutor: (action) => {
        actions.push(action);
      },
    },
    take: () => {
      const taken = actions;
      actions = [];
      return taken;
    },
  };
}

function handledBy(logic: AnyStateMachine, state: string): readonly string[] {
  return logic.root.states[state].ownEvents as readonly string[];
}

/** Why an event is refused; `accepts` are the other events that the state has transitions for. */
export type Explain<Context, Event> = (
  snapshot: MachineSnapshot<Context>,
  event: Event,
  accepts: readonly string[],
) => Refusal;

/** Wraps an XState machine; `explain` has the texts of its refusals. */
export function defineMachine<Input, Context, Event extends Tagged, Effect extends Tagged>(
  logic: AnyStateMachine,
  explain: Explain<Context, Event>,
): Machine<Input, Context, Event, Effect> {
  const states = Object.keys(logic.root.states);
  const events = [...new Set(states.flatMap((state) => handledBy(logic, state)))];
  const collecting = collectingScope();
  return {
    name: logic.id,
    states,
    events,
    logic,
    initial(input) {
      collecting.take(); // of an initial state or a step that threw, which is a bug, but not this one's
      const raw = logic.getInitialSnapshot(collecting.scope, input);
      return { snapshot: snapshotOf(raw), effects: effectsOf(collecting.take()) };
    },
    can: (snapshot, event) => snapshot.raw.can(event),
    step(snapshot, event) {
      collecting.take(); // as above
      const raw = logic.transition(snapshot.raw, event, collecting.scope);
      return { snapshot: snapshotOf(raw), effects: effectsOf(collecting.take()) };
    },
    explain: (snapshot, event) =>
      explain(
        snapshot,
        event,
        handledBy(logic, snapshot.state).filter((type) => type !== event.type),
      ),
    allowed: (state) => handledBy(logic, state),
  };
}
