/**
 * Who goes next. Called by the holder of the baton with its own step pending; a decision depends on nothing but the control
 * words, so a seed or a path replays the schedule.
 *
 * - `priorities`: every thread has a random priority, the highest that can run runs, and at a few random steps the running
 *   one falls below all others (Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs").
 * - `walk`: goes on with the same thread, and now and then switches to any other.
 * - `path`: exhaustive search. The choices of a prefix, then always the first: go on with the same thread. The others that
 *   could run, an early time-out or a death are the alternatives; each that was not forced costs one of the path's bound.
 */
import {
  chosenStart,
  choicesMax,
  field,
  header,
  mailboxMax,
  mailboxStart,
  operation,
  optionsStart,
  pointsStart,
  reason,
  status,
  threadWord,
  traceFields,
  traceMax,
  traceStart,
} from "./control-words.mjs";

export const strategies = { priorities: 0, walk: 1, path: 2 };

const killOption = 100;
const timeoutOption = 200;

export class Strategy {
  /** @param {Int32Array} words */
  constructor(words) {
    this.words = words;
    /** @type {number[]} */
    this.runnable = [];
  }

  /** @param {number} self the thread that asks @returns {number} who goes on; -1 if nobody can */
  choose(self) {
    const { words } = this;
    this.#look();
    if (words[header.strategy] === strategies.path && words[header.steps] <= words[header.stepsSoft])
      return this.#alongPath(self);
    this.#maybeKill();
    if (words[header.timeoutOdds] > 0 && this.runnable.length > 0 && this.random(words[header.timeoutOdds]) === 0) {
      const blocked = this.#timeouts();
      if (blocked.length > 0) {
        this.#fire(blocked[this.random(blocked.length)]);
        this.#look();
      }
    }
    if (this.runnable.length === 0 && !this.#force()) return -1;
    if (words[header.steps] > words[header.stepsSoft]) return this.runnable[this.random(this.runnable.length)];
    return words[header.strategy] === strategies.walk ? this.#walk(self) : this.#byPriority();
  }

  /** A number from 0 to `below` - 1. @param {number} below */
  random(below) {
    const { words } = this;
    let state = words[header.random];
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[header.random] = state;
    return (state >>> 0) % below;
  }

  #look() {
    const { words, runnable } = this;
    runnable.length = 0;
    const count = words[header.threads];
    for (let thread = 0; thread < count; thread++) {
      const state = words[threadWord(thread, field.status)];
      if (state === status.runnable || (state === status.event && this.#hasEvent(count, thread))) runnable.push(thread);
    }
  }

  /** An event is there, or nobody is left who could send one. @param {number} count @param {number} self */
  #hasEvent(count, self) {
    const { words } = this;
    if (words[header.mailHead] !== words[header.mailTail]) return true;
    for (let thread = 0; thread < count; thread++) {
      if (thread !== self && words[threadWord(thread, field.status)] < status.dead) return false;
    }
    return true;
  }

  #byPriority() {
    const { words } = this;
    for (let point = 0; point < words[header.pointCount]; point++) {
      if (words[pointsStart + point] !== words[header.steps]) continue;
      words[pointsStart + point] = -1;
      words[threadWord(this.#highest(), field.priority)] = --words[header.lowest];
    }
    return this.#highest();
  }

  #highest() {
    const { words, runnable } = this;
    let best = runnable[0];
    for (const thread of runnable) {
      if (words[threadWord(thread, field.priority)] > words[threadWord(best, field.priority)]) best = thread;
    }
    return best;
  }

  /** @param {number} self */
  #walk(self) {
    const { words, runnable } = this;
    if (runnable.includes(self) && this.random(words[header.switchOdds]) !== 0) return self;
    return runnable[this.random(runnable.length)];
  }

  /** @param {number} self */
  #alongPath(self) {
    const { words, runnable } = this;
    if (runnable.length === 0 && !this.#force()) return -1;
    const forced = !runnable.includes(self);
    const options = forced ? [...runnable] : [self];
    if (words[header.spent] < words[header.bound]) {
      if (!forced) for (const thread of runnable) if (thread !== self) options.push(thread);
      for (const thread of this.#timeouts()) options.push(timeoutOption + thread);
      if (words[header.killed] === 0 && ((words[header.killMask] >>> self) & 1) !== 0 && !forced)
        options.push(killOption + self);
    }
    let index = 0;
    if (options.length > 1 && words[header.choiceCount] < choicesMax) {
      const at = words[header.choiceCount]++;
      if (at < words[header.prefixLength]) index = words[chosenStart + at];
      words[chosenStart + at] = index;
      words[optionsStart + at] = options.length;
    }
    const option = options[index];
    if (option >= killOption || (!forced && option !== self)) words[header.spent]++;
    if (option >= timeoutOption) {
      this.#fire(option - timeoutOption);
      return option - timeoutOption;
    }
    if (option < killOption) return option;
    this.#kill(option - killOption);
    this.#look();
    if (runnable.length === 0 && !this.#force()) return -1;
    return runnable[0];
  }

  #maybeKill() {
    const { words } = this;
    if (words[header.killAt] < 0 || words[header.steps] < words[header.killAt]) return;
    words[header.killAt] = -1;
    const victim = words[header.killThread];
    if (words[threadWord(victim, field.status)] >= status.dead) return;
    this.#kill(victim);
    this.#look();
  }

  /** The thread never runs again; its exit event is on its way. @param {number} thread */
  #kill(thread) {
    const { words } = this;
    words[threadWord(thread, field.status)] = status.dead;
    words[header.killed] |= 1 << thread;
    this.post(-1 - thread);
    this.note(thread, operation.dies, 0, 0, 0);
  }

  /** @param {number} event */
  post(event) {
    const { words } = this;
    words[mailboxSlot(words[header.mailTail]++)] = event;
  }

  /** Threads that sleep with a time-out. */
  #timeouts() {
    const { words } = this;
    /** @type {number[]} */
    const found = [];
    for (let thread = 0; thread < words[header.threads]; thread++) {
      if (
        words[threadWord(thread, field.status)] === status.blocked &&
        words[threadWord(thread, field.deadlineUs)] >= 0
      )
        found.push(thread);
    }
    return found;
  }

  /** Nothing runs: time passes until the next time-out. False if there is none. */
  #force() {
    const { words } = this;
    let next = -1;
    for (const thread of this.#timeouts()) {
      if (next === -1 || words[threadWord(thread, field.deadlineUs)] < words[threadWord(next, field.deadlineUs)])
        next = thread;
    }
    if (next === -1) return false;
    words[header.forcedTimeouts]++;
    this.#fire(next);
    words[threadWord(next, field.reason)] = reason.timedOut | 4; // nothing else could run
    this.#look();
    return true;
  }

  /** @param {number} thread */
  #fire(thread) {
    const { words } = this;
    words[header.clockUs] = Math.max(words[header.clockUs], words[threadWord(thread, field.deadlineUs)]);
    words[threadWord(thread, field.reason)] = reason.timedOut;
    words[threadWord(thread, field.status)] = status.runnable;
  }

  /** @param {number} thread @param {number} what @param {number} buffer @param {number} offset @param {number} result */
  note(thread, what, buffer, offset, result) {
    const { words } = this;
    if (words[header.traceLength] >= traceMax) return;
    const at = traceStart + words[header.traceLength]++ * traceFields;
    words[at] = thread;
    words[at + 1] = what;
    words[at + 2] = buffer;
    words[at + 3] = offset;
    words[at + 4] = result;
  }
}

/** @param {number} index */
export function mailboxSlot(index) {
  return mailboxStart + (index % mailboxMax);
}

/** Exhaustive search: makes the prefix of the next path from the last one's choices. False when all were tried. @param {Int32Array} words */
export function nextPath(words) {
  for (let at = words[header.choiceCount] - 1; at >= 0; at--) {
    if (words[chosenStart + at] + 1 >= words[optionsStart + at]) continue;
    words[chosenStart + at]++;
    words[header.prefixLength] = at + 1;
    return true;
  }
  return false;
}
