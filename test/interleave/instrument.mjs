/**
 * Replaces this thread's `Atomics`, clock and timers by ones that the scheduler holds the strings of. To be called before
 * the code under test is imported, and that code looks `Atomics` up at each use.
 *
 * Time is a count of steps (a microsecond each) that jumps where a sleeper's time-out comes.
 */
import { operation, reason } from "./control-words.mjs";
import { lab, original, unwind } from "./lab.mjs";

const real = /** @type {typeof Atomics} */ (/** @type {unknown} */ (original));

/** Timers that are due at the main thread's next turns, in order. @type {(() => void)[]} */
export const timers = [];

export function instrument() {
  /** @param {Int32Array} array @param {number} index */
  const place = (array, index) => {
    const buffer = lab.buffers.get(array.buffer);
    if (buffer === undefined || !lab.scheduled) return 0;
    const offset = array.byteOffset + index * 4;
    for (const range of lab.quiet) if (range.buffer === buffer && offset >= range.from && offset < range.to) return 0;
    at = offset;
    return buffer;
  };
  let at = 0;

  /** @type {Record<string, unknown>} */
  const replaced = { isLockFree: real.isLockFree, waitAsync: Reflect.get(real, "waitAsync") };
  for (const name of ["store", "or", "and", "add", "sub", "xor", "exchange", "compareExchange"]) {
    const what = operation[name];
    const make = Reflect.get(real, name);
    replaced[name] = (
      /** @type {Int32Array} */ array,
      /** @type {number} */ index,
      /** @type {number} */ value,
      /** @type {number} */ other,
    ) => {
      const buffer = place(array, index);
      if (buffer === 0) return make(array, index, value, other);
      lab.forgetLoads();
      lab.park(what, buffer, at);
      const offset = at;
      const result = make(array, index, value, other);
      lab.note(result);
      if (what === operation.or) lab.afterOr(offset);
      return result;
    };
  }
  replaced["load"] = (/** @type {Int32Array} */ array, /** @type {number} */ index) => {
    const buffer = place(array, index);
    if (buffer === 0) return real.load(array, index);
    return lab.load(buffer, at, () => real.load(array, index));
  };
  replaced["wait"] = (
    /** @type {Int32Array} */ array,
    /** @type {number} */ index,
    /** @type {number} */ value,
    timeoutMs = Number.POSITIVE_INFINITY,
  ) => {
    if (!lab.scheduled) throw new Error("nobody sleeps outside of a schedule");
    const buffer = place(array, index);
    lab.forgetLoads();
    const offset = at;
    lab.park(operation.wait, buffer, offset);
    const equal = real.load(array, index) === value;
    lab.note(equal ? 1 : 0);
    if (!equal) return "not-equal";
    return lab.sleep(buffer, offset, timeoutMs);
  };
  replaced["notify"] = (
    /** @type {Int32Array} */ array,
    /** @type {number} */ index,
    count = Number.POSITIVE_INFINITY,
  ) => {
    const buffer = place(array, index);
    if (buffer === 0) return 0;
    lab.forgetLoads();
    const offset = at;
    lab.park(operation.notify, buffer, offset);
    const woken = lab.wake(buffer, offset, count);
    lab.note(woken);
    return woken;
  };
  Reflect.set(globalThis, "Atomics", replaced);

  performance.now = () => lab.now;
  Date.now = () => Math.floor(lab.now);
  const { setTimeout: realSetTimeout } = globalThis;
  Reflect.set(globalThis, "setTimeout", (/** @type {() => void} */ callback, /** @type {number} */ ms) => {
    if (!lab.scheduled) return realSetTimeout(callback, ms);
    timers.push(callback);
    return timers.length;
  });
}

/** Steps of an I/O that touches bytes in pieces. @param {string} name @param {number} buffer @param {number} offset */
export function ioStep(name, buffer, offset) {
  lab.forgetLoads();
  lab.park(operation[name], buffer, offset);
  lab.note(0);
}

export { reason, unwind };
