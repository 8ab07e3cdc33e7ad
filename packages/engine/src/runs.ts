/** Claiming runs: the threads of a job share one cursor, so each takes the next run of needed clusters that nobody has. */
import { cursorWord } from "./job-layout.ts";
import { maskOf, runEnd } from "./masks.ts";
import type { View } from "./view.ts";
import { nextNeeded } from "./view-scan.ts";

export interface Run {
  first: number;
  count: number;
}

/** Fills `run` with the next run of this pass; false at its end. */
export function takeRun(view: View, job: Int32Array, clustersMax: number, run: Run): boolean {
  for (;;) {
    const from = Atomics.load(job, cursorWord);
    const first = nextNeeded(view, from);
    if (first === -1) {
      if (from >= view.clusters || Atomics.compareExchange(job, cursorWord, from, view.clusters) === from) return false;
      continue;
    }
    const end = runOfNeeded(view, first, Math.min(view.clusters, first + clustersMax));
    if (Atomics.compareExchange(job, cursorWord, from, end) !== from) continue;
    run.first = first;
    run.count = end - first;
    return true;
  }
}

/** Begins another pass, if the last one has ended. */
export function passAgain(view: View, job: Int32Array): void {
  Atomics.compareExchange(job, cursorWord, view.clusters, 0);
}

/** Where the run of needed clusters that begins at `first` ends, at most `limit`. */
function runOfNeeded(view: View, first: number, limit: number): number {
  let end = first + 1;
  while (end < limit) {
    const word = end >>> 5;
    const upTo = Math.min(limit, (word + 1) * 32);
    const wanted = view.wantedOf(word, maskOf(end, upTo));
    end = Math.min(upTo, word * 32 + runEnd(wanted, end & 31));
    if (end < upTo) break;
  }
  return end;
}
