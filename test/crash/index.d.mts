export interface Fault {
  readonly name: string;
  readonly edits: ReadonlyArray<readonly [string, string, string]>;
  readonly expect: RegExp;
  /** The first seed that is tried, and how many. */
  readonly from?: number;
  readonly seeds?: number;
  /** Seen in runs of little else but resumable jobs, after crashes of this kind. */
  readonly jobs?: "kills" | "losses";
  readonly synced?: boolean;
}
export interface Explored {
  readonly seeds: number;
  readonly steps: number;
  readonly kills: number;
  readonly losses: number;
  /** Crashes after which a resumable job goes on. */
  readonly resumedKills: number;
  readonly resumedLosses: number;
  /** States after a crash of the recovery from one of these. */
  readonly again: number;
  readonly failure?: { readonly seed: number; readonly message: string };
}
export const faults: readonly Fault[];
export function explore(job: {
  readonly from: number;
  readonly to: number;
  readonly commands?: number;
  /** Little else but resumable jobs. */
  readonly jobs?: boolean;
  readonly synced?: boolean;
  readonly fault?: Fault;
}): Promise<Explored>;
export function seedsOf(fault: Fault): { readonly from: number; readonly to: number };
