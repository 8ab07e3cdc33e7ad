/** What every copier and drainer does with clusters that have arrived on the target. */
import { copiedClustersWord } from "./job-layout.ts";
import { countOf } from "./masks.ts";
import type { MoverJob } from "./mover-types.ts";
import { brokenSpillFailed } from "./view-layout.ts";

/**
 * Says that clusters of a word are on the target. Of a resumable job in its record first: what memory calls copied, a guest
 * overwrites without storing it, and a restart has to know why it may.
 * @returns false where that could not be recorded; then the view is broken
 */
export function sayCopied(job: MoverJob, word: number, mask: number): boolean {
  const errno = job.record?.add(word, mask) ?? 0;
  if (errno !== 0) {
    job.view.break(brokenSpillFailed, errno);
    return false;
  }
  job.view.setCopied(word, mask);
  Atomics.add(job.words, copiedClustersWord, countOf(mask));
  return true;
}
