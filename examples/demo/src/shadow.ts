/**
 * Shadow copies: what the disk held at each freeze, copied by the test hook inside the closed gate, where nothing writes.
 * The truth that rebuilt images are compared with.
 */
import { rmSync } from "node:fs";
import type { FreezeObservation } from "@heirloom/runtime";
import { now } from "./clock.ts";
import { copySparse } from "./sparse-copy.ts";
import type { Workplace } from "./workplace.ts";

export class Shadows {
  readonly #workplace: Workplace;
  readonly #observed: (begin: number, end: number) => void;
  readonly #failures = new Map<string, unknown>();
  #image = "";

  /** @param observed is told when a copy was made, in `now()` milliseconds, before the gate opens */
  constructor(workplace: Workplace, observed: (begin: number, end: number) => void) {
    this.#workplace = workplace;
    this.#observed = observed;
  }

  /** Begins: every freeze from now on is of this image. */
  follow(image: string): void {
    this.#image = image;
  }

  /** The hook. Must not throw: the gate is closed. */
  readonly atFreeze = ({ jobs }: FreezeObservation): void => {
    const begin = now();
    for (const { job } of jobs) {
      try {
        copySparse(this.#image, this.#pathOf(job));
      } catch (error) {
        this.#failures.set(job, error);
      }
    }
    this.#observed(begin, now());
  };

  /** Path of what the disk held when this job began. @throws if it could not be copied */
  of(job: string): string {
    if (this.#failures.has(job)) throw this.#failures.get(job);
    return this.#pathOf(job);
  }

  forget(job: string): void {
    rmSync(this.#pathOf(job), { force: true });
  }

  #pathOf(job: string): string {
    return this.#workplace.path(`shadow-${job}.img`);
  }
}
