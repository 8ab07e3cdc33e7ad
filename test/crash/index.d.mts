export interface Fault {
  readonly name: string;
  readonly edits: ReadonlyArray<readonly [string, string, string]>;
  readonly expect: RegExp;
  readonly seeds?: number;
}
export interface Explored {
  readonly seeds: number;
  readonly steps: number;
  readonly kills: number;
  readonly losses: number;
  /** States after a crash of the recovery from one of these. */
  readonly again: number;
  readonly failure?: { readonly seed: number; readonly message: string };
}
export const faults: readonly Fault[];
export function explore(job: {
  readonly from: number;
  readonly to: number;
  readonly commands?: number;
  readonly fault?: Fault;
}): Promise<Explored>;
