/**
 * What the rest of the runtime sees of a state machine: a pure function from (snapshot, event) to (snapshot, effects).
 *
 * The definition is XState's; nothing here runs an effect. Effects leave as data through one action, `effects`,
 * whose parameters are the list; the coordinator carries them out. Machines are flat (one state name at a time), without
 * invoke, timers and spawned actors, so every path can be enumerated, tested and drawn.
 */
import type { AnyStateMachine } from "xstate";
import type { Refusal } from "../errors.ts";
import { FlatMachine } from "./flat-machine.ts";

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
export function defineMachine<Input, Context extends object, Event extends Tagged, Effect extends Tagged>(
  logic: AnyStateMachine,
  explain: Explain<Context, Event>,
): Machine<Input, Context, Event, Effect> {
  const states = Object.keys(logic.root.states);
  const events = [...new Set(states.flatMap((state) => handledBy(logic, state)))];
  const machine = new FlatMachine<Input, Context, Event, Effect>(logic);
  return {
    name: logic.id,
    states,
    events,
    logic,
    initial: (input) => machine.initial(input),
    can: (snapshot, event) => machine.can(snapshot, event),
    step: (snapshot, event) => machine.step(snapshot, event),
    explain: (snapshot, event) =>
      explain(
        snapshot,
        event,
        handledBy(logic, snapshot.state).filter((type) => type !== event.type),
      ),
    allowed: (state) => handledBy(logic, state),
  };
}
