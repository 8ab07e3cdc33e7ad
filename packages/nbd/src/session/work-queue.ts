/**
 * Requests on their way to helper threads and back (work-layout.ts).
 *
 * Why no request is lost. A session stores `ready`, sets the hint, then counts `work` up and notifies. A helper loads
 * `work`, then looks at the hints, then sleeps with the value that it loaded: either it saw the hint, or `work` has moved and
 * it does not sleep. Who takes a slot clears the hint right away: the slot cannot be ready again before it was done, so
 * the hint that is cleared is the one that was taken. A helper that dies before it cleared leaves a hint too many.
 */
import * as layout from "./work-layout.ts";

export class WorkQueue {
  readonly slots: number;
  readonly words: Int32Array;
  readonly numbers: Float64Array;
  readonly #slotsStart: number;
  readonly #readyEnd: number;
  #next = 0;

  constructor(buffer: SharedArrayBuffer, slots: number) {
    this.slots = slots;
    this.words = new Int32Array(buffer, 0, layout.numbersStart(slots) / 4);
    this.numbers = new Float64Array(buffer, layout.numbersStart(slots));
    this.#slotsStart = layout.slotsStart(slots);
    this.#readyEnd = layout.readyStart + layout.readyWords(slots);
  }

  /** Index of a slot's field in `words`. */
  field(slot: number, field: number): number {
    return this.#slotsStart + slot * layout.slotWords + field;
  }
  get(slot: number, field: number): number {
    return this.words[this.field(slot, field)];
  }
  number(slot: number, number: number): number {
    return this.numbers[slot * layout.slotNumbers + number];
  }
  state(slot: number): number {
    return Atomics.load(this.words, this.field(slot, layout.stateField));
  }

  /** Session: the slot is filled. */
  submit(slot: number): void {
    Atomics.add(this.words, layout.busyWord, 1);
    Atomics.store(this.words, this.field(slot, layout.stateField), layout.slotReady);
    Atomics.or(this.words, layout.readyStart + (slot >>> 5), 1 << (slot & 31));
    Atomics.add(this.words, layout.workWord, 1);
    Atomics.notify(this.words, layout.workWord, 1);
  }
  /** Session: nobody is to do it any more. @returns false if a helper has it, or had it */
  withdraw(slot: number): boolean {
    const state = this.field(slot, layout.stateField);
    // The hint that is left is one too many, as after a death.
    if (Atomics.compareExchange(this.words, state, layout.slotReady, layout.slotFree) !== layout.slotReady)
      return false;
    Atomics.sub(this.words, layout.busyWord, 1);
    return true;
  }
  /** Session: the answer was taken. */
  free(slot: number): void {
    Atomics.sub(this.words, layout.busyWord, 1);
    Atomics.store(this.words, this.field(slot, layout.stateField), layout.slotFree);
  }

  /** Requests that helpers have or will have, of all threads. */
  get busy(): number {
    return Atomics.load(this.words, layout.busyWord);
  }
  get idleHelpers(): number {
    return Atomics.load(this.words, layout.idleWord);
  }
  get stopping(): boolean {
    return Atomics.load(this.words, layout.stopWord) !== 0;
  }

  /** Helper: a request, taken in the name of a participant; -1 if there is none. */
  take(participant: number): number {
    const count = this.#readyEnd - layout.readyStart;
    for (let looked = 0; looked < count; looked++) {
      const index = (this.#next + looked) % count;
      let hints = Atomics.load(this.words, layout.readyStart + index);
      while (hints !== 0) {
        const bit = 31 - Math.clz32(hints & -hints);
        hints &= hints - 1;
        const slot = index * 32 + bit;
        const state = this.field(slot, layout.stateField);
        const taken = layout.slotTaken + participant;
        if (Atomics.compareExchange(this.words, state, layout.slotReady, taken) !== layout.slotReady) continue;
        Atomics.and(this.words, layout.readyStart + index, ~(1 << bit));
        this.#next = (index + 1) % count; // nobody's requests are always first
        return slot;
      }
    }
    return -1;
  }

  /** Helper: done. */
  finish(slot: number, errno: number): void {
    this.words[this.field(slot, layout.errnoField)] = errno;
    Atomics.store(this.words, this.field(slot, layout.stateField), layout.slotDone);
  }

  workSeen(): number {
    return Atomics.load(this.words, layout.workWord);
  }
  newsSeen(): number {
    return Atomics.load(this.words, layout.newsWord);
  }
  /** Helper: sleeps until there is work after `seen` was read. @returns false if the time is over */
  sleep(seen: number, timeoutMs: number): boolean {
    Atomics.add(this.words, layout.idleWord, 1);
    const woken = Atomics.wait(this.words, layout.workWord, seen, timeoutMs);
    Atomics.sub(this.words, layout.idleWord, 1);
    return woken !== "timed-out";
  }

  /** Main: helpers look at their ports. */
  announce(): void {
    Atomics.add(this.words, layout.newsWord, 1);
    this.#wakeAll();
  }
  /** Main: helpers end when they have done what they do. */
  stop(): void {
    Atomics.store(this.words, layout.stopWord, 1);
    this.#wakeAll();
  }
  /** Main: a helper is dead; what it had is answered in its place. @returns the doorbells of those who wait */
  answerFor(participant: number, errno: number): number[] {
    const bells: number[] = [];
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.state(slot) !== layout.slotTaken + participant) continue;
      bells.push(this.get(slot, layout.bellField));
      this.finish(slot, errno);
    }
    return bells;
  }

  #wakeAll(): void {
    Atomics.add(this.words, layout.workWord, 1);
    Atomics.notify(this.words, layout.workWord);
  }
}
