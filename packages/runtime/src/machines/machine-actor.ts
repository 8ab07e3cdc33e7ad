/**
 * One actor: a machine, its present snapshot and the history that led to it.
 *
 * `plan` decides without changing anything and `commit` makes a plan true, so that a transaction can plan for many
 * actors, carry the effects out in one engine call, and commit; if the engine refuses, the plans are dropped and nothing
 * has happened. Plans of one actor are chained by planning on top of the previous one and committed in that order.
 *
 * An event that the state does not handle is a refusal with a code and a text, never silence.
 */
import { invariant, RefusalError, type Refusal } from "../errors.ts";
import type { Machine, MachineSnapshot, Tagged } from "./machine.ts";

export interface Plan<Context, Event, Effect> {
  readonly ok: true;
  readonly event: Event;
  readonly base: MachineSnapshot<Context>;
  readonly next: MachineSnapshot<Context>;
  readonly effects: readonly Effect[];
}

export interface Refused<Event> {
  readonly ok: false;
  readonly event: Event;
  readonly refusal: Refusal;
}

/** One committed transition. `from` is empty for the first entry. */
export interface HistoryEntry {
  /** Milliseconds, as the injected clock says. */
  readonly at: number;
  readonly event: string;
  readonly from: string;
  readonly to: string;
  readonly reason?: string;
}

export interface Inspection<Context> {
  readonly id: string;
  readonly machine: string;
  readonly state: string;
  readonly context: Context;
  readonly history: readonly HistoryEntry[];
}

export type TransitionListener<Context> = (entry: HistoryEntry, snapshot: MachineSnapshot<Context>) => void;

export interface ActorOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Entries of history that are kept (default 64); the oldest go first. */
  readonly historyMax?: number;
  /** Why it comes into being as it does: the reason of the first entry of its history. */
  readonly origin?: string;
}

/**
 * @example
 * ```ts
 * import { bitmapMachine } from "./bitmap-machine.ts";
 * const bitmap = new MachineActor("daily", bitmapMachine, { node: "a", name: "daily", recording: true }, { now: Date.now });
 * const clear = bitmap.plan({ type: "clear" });
 * if (clear.ok) bitmap.commit(clear);
 * ```
 */
export class MachineActor<Input, Context, Event extends Tagged, Effect extends Tagged> {
  readonly id: string;
  readonly machine: Machine<Input, Context, Event, Effect>;
  /** Effects of coming into being. */
  readonly initialEffects: readonly Effect[];
  readonly #now: () => number;
  readonly #historyMax: number;
  readonly #history: HistoryEntry[] = [];
  readonly #listeners: Set<TransitionListener<Context>> = new Set();
  #snapshot: MachineSnapshot<Context>;

  /** Making an actor changes nothing elsewhere: one planned for in a transaction that fails is simply dropped. */
  constructor(id: string, machine: Machine<Input, Context, Event, Effect>, input: Input, options: ActorOptions) {
    const { snapshot, effects } = machine.initial(input);
    this.id = id;
    this.machine = machine;
    this.initialEffects = effects;
    this.#snapshot = snapshot;
    this.#now = options.now;
    this.#historyMax = options.historyMax ?? 64;
    invariant(this.#historyMax >= 1, "an actor keeps at least one entry of history");
    const { origin } = options;
    this.#record({
      at: this.#now(),
      event: "init",
      from: "",
      to: snapshot.state,
      ...(origin === undefined ? {} : { reason: origin }),
    });
  }

  get state(): string {
    return this.#snapshot.state;
  }
  get context(): Context {
    return this.#snapshot.context;
  }
  get snapshot(): MachineSnapshot<Context> {
    return this.#snapshot;
  }
  /** In a final state: accepts nothing any more. */
  get done(): boolean {
    return this.#snapshot.done;
  }
  get history(): readonly HistoryEntry[] {
    return [...this.#history];
  }

  can(event: Event): boolean {
    return this.machine.can(this.#snapshot, event);
  }

  /** What the event would do now, or after the plan `after` was committed. Changes nothing. */
  plan(event: Event, after?: Plan<Context, Event, Effect>): Plan<Context, Event, Effect> | Refused<Event> {
    const base = after === undefined ? this.#snapshot : after.next;
    if (!this.machine.can(base, event)) {
      return { ok: false, event, refusal: this.machine.explain(base, event) };
    }
    const { snapshot, effects } = this.machine.step(base, event);
    return { ok: true, event, base, next: snapshot, effects };
  }

  /** Makes a plan true. A plan that was not made on top of the present snapshot is a bug of the caller. */
  commit(plan: Plan<Context, Event, Effect>): void {
    invariant(plan.base === this.#snapshot, `plan "${plan.event.type}" of ${this.id} was made for another snapshot`);
    this.#snapshot = plan.next;
    const reason = reasonOf(plan.event);
    const entry: HistoryEntry = {
      at: this.#now(),
      event: plan.event.type,
      from: plan.base.state,
      to: plan.next.state,
      ...(reason === undefined ? {} : { reason }),
    };
    this.#record(entry);
    for (const listener of this.#listeners) this.#tell(listener, entry);
  }

  /** Plan and commit at once; the effects are the caller's to carry out. Throws a `RefusalError`. */
  send(event: Event): readonly Effect[] {
    const plan = this.plan(event);
    if (!plan.ok) throw new RefusalError(`${this.machine.name} ${event.type}`, plan.refusal);
    this.commit(plan);
    return plan.effects;
  }

  /** Called after each commit; returns what takes the listener away again. */
  onTransition(listener: TransitionListener<Context>): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  inspect(): Inspection<Context> {
    return {
      id: this.id,
      machine: this.machine.name,
      state: this.state,
      context: this.context,
      history: this.history,
    };
  }

  #record(entry: HistoryEntry): void {
    this.#history.push(entry);
    if (this.#history.length > this.#historyMax) this.#history.shift();
  }

  /** A listener that throws must not make a committed transition look refused: its error is reported on its own. */
  #tell(listener: TransitionListener<Context>, entry: HistoryEntry): void {
    try {
      listener(entry, this.#snapshot);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

/** Why, in the words of the event: its `reason` or its `error`; or for whom. */
function reasonOf(event: Tagged): string | undefined {
  if ("reason" in event && typeof event.reason === "string") return event.reason;
  if ("error" in event && typeof event.error === "string") return event.error;
  if ("user" in event && isUser(event.user)) return `${event.user.kind} ${event.user.id}`;
  return undefined;
}

function isUser(value: unknown): value is { readonly kind: string; readonly id: string } {
  return typeof value === "object" && value !== null && "kind" in value && "id" in value;
}
