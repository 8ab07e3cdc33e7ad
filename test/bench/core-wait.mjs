/**
 * How much this process had to wait for a core, as the kernel counts it: a figure in microseconds says nothing where a thread
 * that could run did not.
 */
import { readdirSync, readFileSync } from "node:fs";
import { loadavg } from "node:os";

/** @returns a function that says what happened since */
export function coreWait() {
  const before = times();
  return () => {
    const after = times();
    let ran = 0;
    let waited = 0;
    for (const [task, [ranNow, waitedNow]] of after) {
      const [ranThen, waitedThen] = before.get(task) ?? [0, 0];
      ran += ranNow - ranThen;
      waited += waitedNow - waitedThen;
    }
    return { share: waited / Math.max(1, ran + waited), others: loadavg()[0] };
  };
}

/** Nanoseconds on a core, and ready but without one, of each thread that lives (one that has ended is not counted). */
function times() {
  const found = new Map();
  for (const task of readdirSync("/proc/self/task")) {
    try {
      const [ran, waited] = readFileSync(`/proc/self/task/${task}/schedstat`, "utf8").split(" ");
      found.set(task, [Number(ran), Number(waited)]);
    } catch {
      // it ended in between, or the kernel keeps no such account
    }
  }
  return found;
}
