export interface Failure {
  message: string;
  seed: number;
  path: string;
  trace: string[];
}
export interface Job {
  scenario: string;
  mode: "seeds" | "exhaustive";
  /** First seed. */
  from: number;
  /** Schedules at most. */
  count: number;
  /** Preemptions, early time-outs and deaths that a path of the exhaustive search may hold. */
  bound?: number;
  milliseconds?: number;
}
export interface Result {
  schedules: number;
  steps: number;
  /** The exhaustive search has tried every path. */
  complete: boolean;
  milliseconds: number;
  /** Of all steps of all schedules, with what they found. */
  hash: number;
  /** How often each kind of end was reached. */
  kinds: Record<string, number>;
  failure: Failure | undefined;
}
export interface Fault {
  name: string;
  scenario: string;
  edits: [file: string, find: string, replace: string][];
  expect: RegExp;
  seeds?: number;
}
export const faults: Fault[];
export const scenarioThreads: Record<string, number>;
export function explore(job: Job, fault?: Fault): Promise<Result>;
export function describeFailure(scenario: string, failure: Failure, lines?: number): string;
