/**
 * What a named bitmap is in memory: its bits, its successor while it is frozen, and whether guests mark it. Beside it the
 * actor that says what may be done. Drafts change copies of this; a commit makes a draft true.
 */
import type { Recorder } from "@heirloom/engine";
import type { BitmapContext, BitmapEffect, BitmapEvent, BitmapInput } from "./machines/bitmap-types.ts";
import type { MachineActor } from "./machines/machine-actor.ts";

export type BitmapActor = MachineActor<BitmapInput, BitmapContext, BitmapEvent, BitmapEffect>;

export interface BitmapMemory {
  /** P: what `count` counts. */
  readonly bits: Recorder;
  /** Queries show what came last first. A bitmap that abdicates takes its heir's place. */
  readonly order: number;
  /** The heir: what guests mark while the bitmap is frozen. */
  readonly successor: Recorder | undefined;
  readonly successorOrder: number;
  /** Whether guests mark at all. */
  readonly records: boolean;
  /**
   * Bytes from the disk's beginning that it had since the bitmap began, where it was cut off since; else 0. What is grown again below
   * it reads as zeroes and not as it did then: it has changed.
   */
  readonly cutFrom: number;
}

let orders = 0;
export function nextOrder(): number {
  return ++orders;
}

export interface BitmapState {
  readonly name: string;
  readonly disk: string;
  readonly actor: BitmapActor;
  memory: BitmapMemory;
}

/** What of a bitmap stands in the recorder table. */
export function recorderOf(memory: BitmapMemory): Recorder | undefined {
  return memory.records ? (memory.successor ?? memory.bits) : undefined;
}
