/**
 * Whether guests are at work, for a job that yields to them: looks at the request counts that every guest keeps in its own
 * slot, so guests pay nothing for it.
 */
import { requestsField, slotWord } from "./gate-layout.ts";

export class GuestActivity {
  readonly #gate: Int32Array;
  readonly #participants: () => number;
  readonly #sleepMs: number;
  #seen = -1;
  #yielded = false;

  /** @param sleepMs what the copier leaves to guests between two runs while they are active */
  constructor(gate: Int32Array, participants: () => number, sleepMs: number) {
    this.#gate = gate;
    this.#participants = participants;
    this.#sleepMs = sleepMs;
  }

  /** Milliseconds to leave to the guests now; 0 if none wrote since the last look, or right after they were given some. */
  yieldMs(): number {
    let sum = 0;
    const participants = this.#participants();
    for (let participant = 0; participant < participants; participant++) {
      sum = (sum + this.#gate[slotWord(participant, requestsField)]) | 0;
    }
    const active = sum !== this.#seen;
    this.#seen = sum;
    this.#yielded = active && !this.#yielded;
    return this.#yielded ? this.#sleepMs : 0;
  }
}
