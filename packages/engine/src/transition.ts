/**
 * Transitions: changes of what the tables of one or several stacks say, at one instant.
 *
 * A transition holds its stacks from the moment it is prepared until it is committed or refused, so nothing that it was
 * prepared from changes in between; others on the same stacks queue behind it. The first try runs in the call that asked,
 * so an idle disk's transition is over when `transition` returns. Between two tries the gates stand open for at least
 * twice as long as they were closed.
 *
 * Before the first try there is a look, with the gates open: a guest that lost its core in the middle of a write (measured
 * on two cores: to V8's own threads, collecting this thread's garbage, for 0.3 to 3 ms) is not going to leave, and the try is
 * put off. That costs guests nothing; it is done a few times at most, since somebody may always be found standing.
 */
import { ClosedTimes } from "./closed-times.ts";
import { guestsMove, type TryResult, tryTransition } from "./gatekeeper.ts";
import type { Registry } from "./registry.ts";
import type { Layer, LayerTable, PreparedTable, Stack } from "./stack.ts";

/** A transition as its asker gives it. `prepare` runs when its turn comes, and may throw to refuse. */
export interface TransitionRequest {
  readonly name: string;
  readonly stacks: readonly Stack[];
  /** Gives up after this long, milliseconds; undefined: goes on trying. */
  readonly deadlineMs?: number | undefined;
  prepare(): PreparedTransition;
}

export interface PreparedTransition {
  /** The layers whose part of the table changes. */
  readonly tables: ReadonlyMap<Layer, LayerTable>;
  /** Gates closed: stores only. */
  readonly commit?: (() => void) | undefined;
  /** Gates closed, after the commit; its time is not counted. For a test's look at the instant. */
  readonly observe?: (() => void) | undefined;
  /** In the same call, gates open again: memory follows. */
  readonly committed?: ((outcome: TransitionOutcome) => void) | undefined;
  /** It was given up: undoes what `prepare` allocated. */
  readonly abandoned?: (() => void) | undefined;
}

export interface TransitionOutcome {
  /** How long the gates were closed, all tries added, milliseconds. */
  readonly closedMs: number;
  readonly tries: number;
}

/** Given up at its deadline; names who held the gate. */
export class TransitionTimeout extends Error {
  readonly code = "ERR_GATE_HELD";
  readonly operation: string;
  readonly participant: number;
  constructor(name: string, operation: string, participant: number, deadlineMs: number) {
    super(
      `${name}: given up after ${deadlineMs} ms, since a ${operation} (participant ${participant}) has not left the disk`,
    );
    this.name = "TransitionTimeout";
    this.operation = operation;
    this.participant = participant;
  }
}

const holdMsMin = 0.1;
const holdMsMax = 50;
/** How often the first try is put off because somebody inside does not move, and for how long each time. */
const putOffMax = 8;
const putOffMs = 1;

interface Waiting {
  readonly request: TransitionRequest;
  readonly resolve: (outcome: TransitionOutcome) => void;
  readonly reject: (error: unknown) => void;
}

export class Transitions {
  readonly #registry: Registry;
  readonly #guestsMove: typeof guestsMove;
  readonly #held = new Set<Stack>();
  readonly #queue: Waiting[] = [];
  readonly closed: ClosedTimes = new ClosedTimes();

  /** @param look before the first try; a test that wants every try to meet a guest inside has one that finds nothing */
  constructor(registry: Registry, look: typeof guestsMove = guestsMove) {
    this.#registry = registry;
    this.#guestsMove = look;
  }

  /** Whether a transition of this stack is under way. */
  isHeld(stack: Stack): boolean {
    return this.#held.has(stack);
  }

  run(request: TransitionRequest): Promise<TransitionOutcome> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, resolve, reject });
      this.#advance();
    });
  }

  /** Starts whatever is not behind another on one of its stacks. */
  #advance(): void {
    const blocked = new Set(this.#held);
    for (let index = 0; index < this.#queue.length;) {
      const waiting = this.#queue[index];
      const free = waiting.request.stacks.every((stack) => !blocked.has(stack));
      if (!free) {
        for (const stack of waiting.request.stacks) blocked.add(stack);
        index++;
        continue;
      }
      this.#queue.splice(index, 1);
      this.#start(waiting);
      for (const stack of waiting.request.stacks) if (this.#held.has(stack)) blocked.add(stack);
    }
  }

  #start(waiting: Waiting): void {
    const { request } = waiting;
    for (const stack of request.stacks) this.#held.add(stack);
    let prepared: PreparedTransition | undefined;
    const tables = new Map<Stack, PreparedTable>();
    try {
      prepared = request.prepare();
      for (const stack of request.stacks) tables.set(stack, stack.prepare(tablesOf(prepared, stack)));
    } catch (error) {
      this.#giveUp(waiting, prepared, tables, error);
      return;
    }
    this.#look(waiting, prepared, tables, { closedMs: 0, tries: 0, begun: performance.now(), holdMs: holdMsMin }, 0);
  }

  #look(
    waiting: Waiting,
    prepared: PreparedTransition,
    tables: Map<Stack, PreparedTable>,
    past: Past,
    putOff: number,
  ): void {
    const gates = waiting.request.stacks.map((stack) => stack.words);
    if (putOff < putOffMax && !this.#guestsMove(gates, this.#registry.participantMax)) {
      setTimeout(() => this.#look(waiting, prepared, tables, past, putOff + 1), putOffMs);
    } else this.#try(waiting, prepared, tables, past);
  }

  #try(waiting: Waiting, prepared: PreparedTransition, tables: Map<Stack, PreparedTable>, past: Past): void {
    const { request } = waiting;
    let result: TryResult;
    try {
      result = tryTransition(
        request.stacks.map((stack) => stack.words),
        this.#registry.participantMax,
        past.holdMs,
        () => {
          for (const [stack, table] of tables) stack.commit(table);
          prepared.commit?.();
        },
        prepared.observe,
      );
    } catch (error) {
      // Out of `commit`, which only stores: a bug. Whoever asked is told; the stacks are free again.
      this.#end(waiting, () => waiting.reject(error));
      return;
    }
    past.closedMs += result.closedMs;
    past.tries++;
    if (result.done) {
      this.closed.note(past.closedMs);
      const outcome = { closedMs: past.closedMs, tries: past.tries };
      this.#end(waiting, () => {
        try {
          prepared.committed?.(outcome);
          if ("observeError" in result) waiting.reject(result.observeError);
          else waiting.resolve(outcome);
        } catch (error) {
          waiting.reject(error);
        }
      });
      return;
    }
    if (request.deadlineMs !== undefined && performance.now() - past.begun >= request.deadlineMs) {
      const { operation, participant } = result.holder ?? { operation: "request", participant: -1 };
      const error = new TransitionTimeout(request.name, operation, participant, request.deadlineMs);
      this.#giveUp(waiting, prepared, tables, error);
      return;
    }
    past.holdMs = Math.min(holdMsMax, past.holdMs * 2);
    setTimeout(() => this.#try(waiting, prepared, tables, past), Math.max(1, Math.ceil(result.closedMs * 2)));
  }

  #giveUp(
    waiting: Waiting,
    prepared: PreparedTransition | undefined,
    tables: ReadonlyMap<Stack, PreparedTable>,
    error: unknown,
  ): void {
    this.#end(waiting, () => {
      for (const [stack, table] of tables) stack.abandon(table);
      try {
        prepared?.abandoned?.();
      } finally {
        waiting.reject(error);
      }
    });
  }

  /** Frees the stacks, tells the asker, and lets those behind it go on, whatever the asker's own code does. */
  #end(waiting: Waiting, tell: () => void): void {
    this.#release(waiting.request);
    try {
      tell();
    } finally {
      this.#advance();
    }
  }

  #release(request: TransitionRequest): void {
    for (const stack of request.stacks) this.#held.delete(stack);
  }
}

interface Past {
  closedMs: number;
  tries: number;
  holdMs: number;
  readonly begun: number;
}

function tablesOf(prepared: PreparedTransition, stack: Stack): Map<Layer, LayerTable> {
  return new Map([...prepared.tables].filter(([layer]) => layer.stack === stack));
}
