/**
 * Processor time of those who serve, as the kernel counts it: unlike requests a second, what a request costs depends little on
 * what else the machine does.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Linux counts in hundredths of a second here, whatever its tick is. */
const tickUs = 10_000;

/** Of a process. @returns microseconds */
export function ofProcess(pid) {
  return timesIn(`/proc/${pid}/stat`);
}

/** Of the threads of this process, except the one that runs the benchmark. @returns microseconds; threads that ended do not count */
export function ofOwnThreads() {
  let sum = 0;
  for (const task of readdirSync("/proc/self/task")) {
    if (Number(task) === process.pid) continue;
    try {
      sum += timesIn(`/proc/self/task/${task}/stat`);
    } catch {
      // it ended in between
    }
  }
  return sum;
}

/** User and system time, the 14th and 15th field; the second one is a name in parentheses that may hold anything. */
function timesIn(path) {
  const text = readFileSync(path, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * tickUs;
}
