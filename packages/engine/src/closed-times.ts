/** How long gates were closed, over all transitions since the engine began: a histogram, seconds, as Prometheus has them. */

/** Upper ends of its buckets, seconds. */
export const closedBuckets: readonly number[] = [0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1];

export class ClosedTimes {
  /** Transitions that ended in each bucket, not cumulative; those above the last are in `count` alone. */
  readonly buckets: number[] = closedBuckets.map(() => 0);
  count = 0;
  /** Seconds. */
  sum = 0;

  note(closedMs: number): void {
    const seconds = closedMs / 1000;
    this.count++;
    this.sum += seconds;
    const bucket = closedBuckets.findIndex((end) => seconds <= end);
    if (bucket !== -1) this.buckets[bucket]++;
  }
}
