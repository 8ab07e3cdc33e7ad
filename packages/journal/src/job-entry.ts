/**
 * A resumable job as the directory has it, at its end: which bitmap it has frozen, how it goes on, where it writes, and the layers
 * that say what it had done. It stands there from just after the freeze until the record of its end, which is the one that says
 * what became of the bitmap: so a restart finds the job, or its end, and never both.
 *
 * Three layers beside the bitmap's own:
 * - `set`: what the bitmap said at the freeze. The bitmap's layer may have more by now: who stood aside at the freeze has journaled a
 *   granule there, and writes it as the successor's. Copied as a part of the point in time it would be newer than that.
 * - `copied`: what is on the target. Written before a guest may overwrite it without storing it, so it says enough after a kill.
 * - `flushed`: what a flush of the target covers. All that counts after a power loss.
 */
import type { ByteReader, ByteWriter } from "./byte-cursor.ts";
import type { LayerEntry } from "./directory.ts";

export interface JobLayers<Layer> {
  readonly set: Layer;
  readonly copied: Layer;
  readonly flushed: Layer;
}

export interface JobEntry extends JobLayers<LayerEntry> {
  readonly id: string;
  /** How it goes on, in the words of whoever runs it. */
  readonly options: string;
  /** Its target, whatever number it gets at the next start, and the name that it had. */
  readonly target: string;
  readonly targetName: string;
  /** Its spill file, and the tag of its entries. */
  readonly spill: string;
  readonly tag: number;
  /** Bytes of a cluster of its view: the granularity of `copied` and `flushed`. */
  readonly clusterSize: number;
  /** All of the disk is copied, and not only what the bitmap says. */
  readonly all: boolean;
  /**
   * What guests overwrite was synced before, and the image after the freeze: what is neither in the spill nor flushed to the target is
   * on the disk, after a power loss too.
   */
  readonly synced: boolean;
  /** Bytes that the set is rounded out to. */
  readonly unit: number;
  /** Milliseconds since the epoch. */
  readonly frozenAt: number;
  /** Since when it waits for its target; 0 while it is at work. */
  readonly waitingSince: number;
}

const allFlag = 1;
const syncedFlag = 2;

function flagsOf(flags: number): Pick<JobEntry, "all" | "synced"> {
  return { all: (flags & allFlag) !== 0, synced: (flags & syncedFlag) !== 0 };
}

export function putJob(to: ByteWriter, bitmap: number, job: JobEntry): void {
  to.u16(bitmap);
  to.text(job.id);
  to.text(job.options);
  to.text(job.target);
  to.text(job.targetName);
  to.text(job.spill);
  to.u32(job.tag >>> 0);
  to.u8(Math.log2(job.clusterSize));
  to.u8(Math.log2(job.unit));
  to.u8((job.all ? allFlag : 0) | (job.synced ? syncedFlag : 0));
  to.u64(job.frozenAt);
  to.u64(job.waitingSince);
  for (const { id, length, offset } of [job.set, job.copied, job.flushed]) {
    to.u32(id);
    to.u64(length);
    to.u64(offset);
  }
}

export function getJob(from: ByteReader): { readonly bitmap: number; readonly job: JobEntry } {
  const bitmap = from.u16();
  const head = {
    id: from.text(),
    options: from.text(),
    target: from.text(),
    targetName: from.text(),
    spill: from.text(),
    tag: from.u32() | 0,
    clusterSize: 2 ** from.u8(),
    unit: 2 ** from.u8(),
    ...flagsOf(from.u8()),
    frozenAt: from.number(),
    waitingSince: from.number(),
  };
  const layer = (): LayerEntry => ({ id: from.u32(), role: "bits", length: from.number(), offset: from.number() });
  return { bitmap, job: { ...head, set: layer(), copied: layer(), flushed: layer() } };
}
