/**
 * One thread's side of the scheduler. A thread owns the baton or it sleeps; at each step of the code under test it says what
 * it is about to do, asks the strategy who goes next, hands the baton on if that is another, and makes the step when it
 * has the baton again. So exactly one thread runs at a time, and whoever runs decides who is next: a step without a switch
 * costs no wake-up.
 *
 * Everything here uses the `Atomics` that was there before it was replaced.
 */
import { field, header, operation, reason, status, threadWord, traceMax } from "./control-words.mjs";
import { mailboxSlot, Strategy } from "./strategy.mjs";

export const original = {
  ...Object.fromEntries(Object.getOwnPropertyNames(Atomics).map((name) => [name, Reflect.get(Atomics, name)])),
};
const { load, store, wait, notify } = /** @type {typeof Atomics} */ (/** @type {unknown} */ (original));

/** Thrown through the code under test when its schedule is over. */
export const unwind = { name: "Unwind", message: "the schedule is over" };

/** A look at the baton before sleeping: a switch between two cores is faster than a wake-up. */
const spins = 200;

class Lab {
  /** @type {Int32Array} */ words = new Int32Array(0);
  /** @type {Strategy} */ strategy = new Strategy(this.words);
  self = 0;
  /** Steps are scheduled; otherwise whoever runs has the baton and everything is done at once. */
  scheduled = false;
  unwinding = false;
  /** @type {WeakMap<object, number>} */ buffers = new WeakMap();
  /** Ranges whose words nobody fights over: no steps. @type {{ buffer: number, from: number, to: number }[]} */ quiet =
    [];
  /** Ranges that were given back: a step in one is an error. Shared by all, see world.mjs. @type {(buffer: number, offset: number) => string | undefined} */ givenBack =
    () => undefined;
  /** @type {Uint8Array} */ failureText = new Uint8Array(0);
  /** Told of each bit that was set: at this moment it must be true. @type {(offset: number) => void} */ afterOr =
    () => {};
  #same = 0;
  #sameAt = 0;
  #sameBuffer = -1;

  /** @param {{ control: SharedArrayBuffer, text: SharedArrayBuffer, shared: SharedArrayBuffer[], self: number }} parts */
  open({ control, text, shared, self }) {
    this.words = new Int32Array(control);
    this.failureText = new Uint8Array(text);
    this.strategy = new Strategy(this.words);
    this.self = self;
    for (const [index, buffer] of shared.entries()) this.buffers.set(buffer, index + 1);
  }

  get now() {
    return this.words[header.clockUs] / 1000;
  }

  /** @param {number} thread */
  hand(thread) {
    store(this.words, threadWord(thread, field.baton), 1);
    notify(this.words, threadWord(thread, field.baton));
  }

  takeBaton() {
    const word = threadWord(this.self, field.baton);
    for (let spin = 0; spin < spins; spin++) if (load(this.words, word) !== 0) break;
    while (load(this.words, word) === 0) wait(this.words, word, 0);
    store(this.words, word, 0);
  }

  /** A step of this thread comes next: returns when it may be made. @param {number} what @param {number} buffer @param {number} offset */
  park(what, buffer = 0, offset = 0) {
    if (!this.scheduled) return;
    if (this.unwinding) throw unwind;
    const { words, self } = this;
    words[threadWord(self, field.operation)] = what;
    words[threadWord(self, field.buffer)] = buffer;
    words[threadWord(self, field.offset)] = offset;
    this.#yield();
    if (++words[header.steps] > words[header.stepsMax]) this.fail("the schedule does not come to an end");
    words[header.clockUs]++;
    const freed = this.givenBack(buffer, offset);
    if (freed !== undefined) this.fail(`a thread touches memory that was given back: ${freed}`);
  }

  /** What the step that was parked for has found. @param {number} result */
  note(result) {
    const { words, self } = this;
    if (!this.scheduled || words[header.traceLength] >= traceMax) return;
    this.strategy.note(
      self,
      words[threadWord(self, field.operation)],
      words[threadWord(self, field.buffer)],
      words[threadWord(self, field.offset)],
      result,
    );
  }

  /**
   * Two looks at a word that find the same are steps; more of them in a row are not, since nobody could tell.
   * @param {number} buffer @param {number} offset @param {() => number} look
   */
  load(buffer, offset, look) {
    if (!this.scheduled) return look();
    if (this.unwinding) throw unwind;
    if (this.#sameAt !== offset || this.#sameBuffer !== buffer) this.#same = 0;
    else if (this.#same >= 2 && this.#same < 5000) {
      this.#same++;
      return look();
    }
    this.park(operation.load, buffer, offset);
    const value = look();
    this.note(value);
    this.#same++;
    this.#sameAt = offset;
    this.#sameBuffer = buffer;
    return value;
  }
  forgetLoads() {
    this.#same = 0;
    this.#sameBuffer = -1;
  }

  #yield() {
    const { words, self } = this;
    const next = this.strategy.choose(self);
    if (next === -1) this.#nobody();
    if (next === self) return;
    this.hand(next);
    this.takeBaton();
    if (words[header.ending] !== 0) this.#unwind();
  }

  /** Nobody can go on. */
  #nobody() {
    const { words } = this;
    const sleepers = [];
    for (let thread = 0; thread < words[header.threads]; thread++) {
      if (words[threadWord(thread, field.status)] < status.dead) sleepers.push(thread);
    }
    if (sleepers.length > 0)
      this.fail(`deadlock: threads ${sleepers.join(", ")} sleep and nobody is left to wake them`);
    words[header.ending] = 1;
    this.#unwind();
  }

  /** @returns {never} */
  #unwind() {
    this.unwinding = true;
    throw unwind;
  }

  /**
   * Sleeps on a word, which holds the expected value.
   * @param {number} buffer @param {number} offset @param {number} timeoutMs @returns {"ok" | "timed-out"}
   */
  sleep(buffer, offset, timeoutMs) {
    const { words, self } = this;
    words[threadWord(self, field.status)] = status.blocked;
    words[threadWord(self, field.waitBuffer)] = buffer;
    words[threadWord(self, field.waitOffset)] = offset;
    words[threadWord(self, field.deadlineUs)] = Number.isFinite(timeoutMs)
      ? words[header.clockUs] + Math.max(1, Math.ceil(timeoutMs * 1000))
      : -1;
    words[threadWord(self, field.reason)] = reason.none;
    words[threadWord(self, field.operation)] = operation.woken;
    this.#yield();
    words[header.steps]++;
    const why = words[threadWord(self, field.reason)];
    this.note(why & 3);
    if (why === (reason.timedOut | 4)) this.onForced(buffer, offset);
    return (why & 3) === reason.timedOut ? "timed-out" : "ok";
  }

  /** A sleeper was woken by its time-out since nobody else could run: did somebody forget it? Set by the world. @type {(buffer: number, offset: number) => void} */
  onForced = () => {};

  /** @param {number} buffer @param {number} offset @param {number} count @returns {number} woken */
  wake(buffer, offset, count) {
    const { words } = this;
    let woken = 0;
    for (let thread = 0; thread < words[header.threads] && woken < count; thread++) {
      if (words[threadWord(thread, field.status)] !== status.blocked) continue;
      if (
        words[threadWord(thread, field.waitBuffer)] !== buffer ||
        words[threadWord(thread, field.waitOffset)] !== offset
      )
        continue;
      words[threadWord(thread, field.status)] = status.runnable;
      words[threadWord(thread, field.reason)] = reason.notified;
      woken++;
    }
    return woken;
  }

  /** On the main thread: one turn of the event loop. @returns {number | undefined} an event; undefined when all others have ended and all was told */
  turn() {
    const { words, self } = this;
    if (this.unwinding) throw unwind;
    words[threadWord(self, field.status)] = status.event;
    words[threadWord(self, field.operation)] = operation["turn of the event loop"];
    this.#yield();
    words[threadWord(self, field.status)] = status.runnable;
    words[header.steps]++;
    if (words[header.mailHead] === words[header.mailTail]) return undefined;
    const event = words[mailboxSlot(words[header.mailHead]++)];
    this.note(event);
    return event;
  }

  /** An event for the main thread. @param {number} event at least 0; deaths come as -1 - thread */
  post(event) {
    this.strategy.post(event);
  }

  /**
   * The schedule has shown an error. @param {string} message @returns {never}
   */
  fail(message) {
    const { words } = this;
    if (words[header.failed] === 0) {
      words[header.failed] = 1;
      const bytes = new TextEncoder().encode(message).subarray(0, this.failureText.length);
      this.failureText.set(bytes);
      words[header.failureLength] = bytes.length;
    }
    words[header.ending] = 1;
    if (!this.scheduled) throw new Error(message);
    return this.#unwind();
  }

  /** A look that is no step. @template Value @param {() => Value} look @returns {Value} */
  quietly(look) {
    const { scheduled } = this;
    this.scheduled = false;
    try {
      return look();
    } finally {
      this.scheduled = scheduled;
    }
  }

  /** Runs one thread's part of a schedule, from its first step to its last. @param {() => void} body @returns {boolean} whether this thread still has the baton */
  run(body) {
    const { words, self } = this;
    this.unwinding = false;
    this.forgetLoads();
    try {
      if (words[header.ending] === 0) {
        this.scheduled = true;
        body();
        if (this.unwinding) throw unwind; // somebody swallowed it on the way
      }
    } catch (error) {
      if (error !== unwind && !this.unwinding) {
        try {
          this.fail(error instanceof Error ? `thread ${self}: ${error.stack}` : String(error));
        } catch {}
      }
    }
    this.scheduled = false;
    this.unwinding = false;
    const next = this.#afterEnd();
    if (next === self) return true;
    this.hand(next);
    return false;
  }

  /** Who has the baton after this thread's part: who goes on, who has to unwind, or, when all have ended, the main thread. */
  #afterEnd() {
    const { words, self } = this;
    words[threadWord(self, field.status)] = status.ended;
    if (words[header.ending] === 0) {
      const next = this.strategy.choose(self);
      if (next !== -1) return next;
      for (let thread = 0; thread < words[header.threads]; thread++) {
        if (words[threadWord(thread, field.status)] >= status.dead) continue;
        try {
          this.fail(`deadlock: thread ${thread} sleeps and nobody is left to wake it`);
        } catch {}
        break;
      }
      words[header.ending] = 1;
    }
    for (let thread = 0; thread < words[header.threads]; thread++) {
      if (words[threadWord(thread, field.status)] !== status.ended) return thread;
    }
    return 0;
  }
}

export const lab = new Lab();
