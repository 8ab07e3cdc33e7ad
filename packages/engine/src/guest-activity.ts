/**
 * Whether guests are at work, for a job that yields to them: looks at the request counts that every guest keeps in its own
 * slot, so guests pay nothing for it.
 *
 * What a guest pays for a backup is the old data that it must preserve, each piece once a backup. So a job that yields is
 * slow while guests are fast: the longer it takes, the fewer of their writes come upon a piece for the first time.
 */
import { requestsField, slotWord } from "./gate-layout.ts";

/** Left to guests for each request that they made in a millisecond, before the next run: at 50,000 requests/s and more, a millisecond. */
const msPerRequestRate = 0.02;

export class GuestActivity {
  readonly #gate: Int32Array;
  readonly #participants: () => number;
  readonly #yieldMsMax: number;
  #requests = 0;
  #at = 0;
  #yielded = true;

  /** @param yieldMsMax left to guests between two runs at most */
  constructor(gate: Int32Array, participants: () => number, yieldMsMax: number) {
    this.#gate = gate;
    this.#participants = participants;
    this.#yieldMsMax = yieldMsMax;
    this.#requests = this.#count();
    this.#at = performance.now();
  }

  /** Milliseconds to leave to the guests before the next run; 0 if they are quiet, or right after they were given some. */
  yieldMs(): number {
    if (this.#yielded) {
      this.#yielded = false;
      return 0;
    }
    const now = performance.now();
    const requests = this.#count();
    const perMs = ((requests - this.#requests) | 0) / Math.max(0.1, now - this.#at);
    this.#requests = requests;
    this.#at = now;
    this.#yielded = true;
    return Math.min(this.#yieldMsMax, perMs * msPerRequestRate);
  }

  #count(): number {
    let sum = 0;
    const participants = this.#participants();
    for (let participant = 0; participant < participants; participant++) {
      sum = (sum + this.#gate[slotWord(participant, requestsField)]) | 0;
    }
    return sum;
  }
}
