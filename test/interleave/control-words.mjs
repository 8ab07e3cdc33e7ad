/**
 * Layout of the words that the scheduler shares between its threads. Only the holder of the *baton* reads or writes them,
 * and handing the baton on is a store and a wake-up, so plain reads and writes are enough for all but the baton itself.
 *
 * | words | hold |
 * |---|---|
 * | header | the schedule that runs: its seed's random state, clock, steps, what ended it |
 * | threads | 16 words each: baton, status, what it waits for, priority, the step it is about to make |
 * | mailbox | events for the main thread (an end, a death), as the event loop would bring them |
 * | points | steps at which a priority changes |
 * | choices | exhaustive search: what was chosen of how many, at every point where there was a choice |
 * | trace | steps that were made: thread, operation, buffer, byte offset, result |
 */
export const threadsMax = 8;
export const traceMax = 40_000;
export const choicesMax = 20_000;
export const mailboxMax = 32;
export const pointsMax = 16;

const names = [
  "ending", // 1 once the schedule is over: whoever is still parked unwinds
  "stop", // 1: the batch is over, workers return
  "threads",
  "random",
  "clockUs",
  "steps",
  "failed",
  "forcedTimeouts",
  "traceLength",
  "strategy", // see strategy.mjs
  "switchOdds", // random walk: one switch in so many steps
  "timeoutOdds", // one early time-out in so many steps; 0: never
  "pointCount",
  "lowest", // priority for the next one that falls
  "killAt", // step at which `killThread` dies; -1: nobody
  "killThread",
  "killMask", // exhaustive search: threads that may die, one of them, once
  "killed", // bits of threads that died
  "choiceCount",
  "prefixLength",
  "bound", // preemptions, early time-outs and deaths that a path may hold
  "spent",
  "mailHead",
  "mailTail",
  "planLength",
  "failureLength",
  "seed",
  "stepsSoft", // from here on the schedule is fair
  "stepsMax",
];
/** @type {Record<string, number>} */
export const header = Object.fromEntries(names.map((name, index) => [name, index]));

const threadStart = 64;
const threadFields = [
  "baton",
  "status",
  "waitBuffer",
  "waitOffset",
  "deadlineUs",
  "reason",
  "priority",
  "operation",
  "buffer",
  "offset",
];
/** @type {Record<string, number>} */
export const field = Object.fromEntries(threadFields.map((name, index) => [name, index]));
/** @param {number} thread @param {number} index of a field */
export function threadWord(thread, index) {
  return threadStart + thread * 16 + index;
}

export const mailboxStart = threadStart + threadsMax * 16;
export const pointsStart = mailboxStart + mailboxMax;
export const chosenStart = pointsStart + pointsMax;
export const optionsStart = chosenStart + choicesMax;
export const traceStart = optionsStart + choicesMax;
export const traceFields = 5;
export const controlBytes = (traceStart + traceMax * traceFields) * 4;

export const status = { runnable: 0, blocked: 1, event: 2, dead: 3, ended: 4 };
/** What a wait ended with. */
export const reason = { none: 0, notified: 1, timedOut: 2 };

export const operations = [
  "start",
  "load",
  "store",
  "or",
  "and",
  "add",
  "sub",
  "xor",
  "exchange",
  "compareExchange",
  "wait",
  "notify",
  "woken",
  "disk read",
  "disk write",
  "disk zeroes",
  "disk flush",
  "disk status",
  "kernel copy",
  "turn of the event loop",
  "sleep",
  "dies",
  "timer",
];
/** @type {Record<string, number>} */
export const operation = Object.fromEntries(operations.map((name, index) => [name, index]));
