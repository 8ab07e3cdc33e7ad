/**
 * The words that the bitmap machine and the coordinator speak: events in, effects out.
 *
 * Folds: what cannot be done within O(1) at the instant (reclaim's union, a merge) leaves the machine as a `fold` effect
 * and is answered later by one `folded` event each. `context.folds` counts the unanswered ones; while it is not 0 the
 * bitmap takes no command, except one of the same `command` (the transaction that began the fold): so
 * `add disabled + merge + clear`, `merge + remove` and `merge + backup` work within one transaction.
 *
 * Several merges of one transaction read what the ones before them made: after `merge a <- b` and `merge c <- a`, c has
 * b's bits. Folds happen later, so whoever carries them out must keep two things: a fold goes into the layer that the
 * bitmap had when the effect came (b's bits into the layer of a that `fresh-layer` then sets aside, or that `freeze` makes
 * the parent), and folds are done in the order of their effects over the whole transaction. `swap-empty` and `drop` void
 * folds for their own bitmap; one whose layer another fold still reads must be done all the same, without `folded`.
 */
import type { BitmapMode } from "../validation/outcome.ts";

/** Who has a bitmap. */
export interface BitmapUser {
  readonly kind: "job" | "view" | "export";
  readonly id: string;
}

export interface BitmapReference {
  readonly node: string;
  readonly name: string;
}

/** Identifies a command or transaction of the coordinator; events of one command carry the same value. */
export type CommandId = number;

export interface BitmapInput extends BitmapReference {
  readonly recording: boolean;
  readonly readonly?: boolean;
  readonly persistent?: boolean;
  /** Found in use when it was loaded: comes into being inconsistent, with this reason. */
  readonly inconsistent?: string;
}

export interface BitmapContext extends BitmapReference {
  /** Guest writes are marked somewhere: in the bitmap, or in its successor while it is frozen. */
  readonly recording: boolean;
  readonly readonly: boolean;
  readonly persistent: boolean;
  /** Who has it while it is frozen or exported. */
  readonly user: BitmapUser | null;
  /** Folds that were asked for and have not been answered. */
  readonly folds: number;
  /** The command that began the folds. */
  readonly foldCommand: CommandId | null;
  /** Why it says nothing any more; a busy one becomes inconsistent when it is given back. */
  readonly broken: string | null;
}

interface Commanded {
  readonly command?: CommandId;
}

export type BitmapEvent =
  | ({ readonly type: "enable" } & Commanded)
  | ({ readonly type: "disable" } & Commanded)
  | ({ readonly type: "clear" } & Commanded)
  | ({ readonly type: "mergeTarget"; readonly sources: readonly BitmapReference[] } & Commanded)
  | ({ readonly type: "mergeSource"; readonly into: BitmapReference } & Commanded)
  | ({ readonly type: "freeze"; readonly user: BitmapUser; readonly mode: BitmapMode } & Commanded)
  /** Memory follows a success; `uncopied` (mode always, after a failure) joins what was not copied. */
  | { readonly type: "abdicate"; readonly uncopied?: boolean; readonly command?: CommandId; readonly reason?: string }
  | { readonly type: "reclaim"; readonly command?: CommandId; readonly reason?: string }
  /** One fold is over. */
  | { readonly type: "folded" }
  /** An export takes it; it goes on recording. */
  | ({ readonly type: "take"; readonly user: BitmapUser } & Commanded)
  | { readonly type: "release" }
  /** A transaction will remove it: the name stays taken until `remove`, or `keep` calls it off. */
  | ({ readonly type: "removing" } & Commanded)
  | { readonly type: "keep" }
  | ({ readonly type: "remove" } & Commanded)
  /** Its bits can no longer be trusted. */
  | { readonly type: "break"; readonly reason: string }
  /** The node was reopened, or persistence was switched. */
  | { readonly type: "setFlags"; readonly readonly?: boolean; readonly persistent?: boolean };

export type FoldSource =
  | { readonly kind: "bitmap"; readonly node: string; readonly name: string }
  /** The bits that it had at the instant, which a merge reads while guests mark a fresh layer. */
  | { readonly kind: "old-layer" }
  | { readonly kind: "successor" }
  /** U: clusters of the view's set that did not reach the target (or were not flushed there). */
  | { readonly kind: "uncopied" };

export type BitmapEffect =
  | { readonly type: "record"; readonly recording: boolean }
  /** An empty bitmap takes the place of the bits. Folds into it that were asked for before this effect are void. */
  | { readonly type: "swap-empty"; readonly voidedFolds: number }
  /** Guests mark a fresh layer from the instant on; the old bits stand still for `into`. */
  | { readonly type: "fresh-layer"; readonly into: BitmapReference }
  /** After the instant: join these bits into the bitmap, then send `folded`. */
  | { readonly type: "fold"; readonly from: FoldSource }
  /** `unsettled`: folds of the same command are outstanding, so the set is not known at the instant. */
  | {
      readonly type: "freeze";
      readonly user: BitmapUser;
      readonly successorRecording: boolean;
      readonly unsettled: boolean;
    }
  /** The successor takes the name; the frozen bits are dropped. */
  | { readonly type: "abdicate" }
  /** The parent records again as `recording` says and the successor stops; its bits are folded afterwards. */
  | { readonly type: "reclaim"; readonly recording: boolean }
  | { readonly type: "hold"; readonly user: BitmapUser }
  | { readonly type: "unhold"; readonly user: BitmapUser }
  /** Stops recording and forgets the bits, the successor's too: it became inconsistent. */
  | { readonly type: "discard-bits"; readonly reason: string }
  | { readonly type: "flags"; readonly readonly: boolean; readonly persistent: boolean }
  /** A removal is pending: nothing of it is stored. */
  | { readonly type: "skip-store"; readonly skip: boolean }
  /** The name is free; the memory is given back when folds out of it are over. */
  | { readonly type: "drop" };
