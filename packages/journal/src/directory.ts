/**
 * The directory: which bitmaps there are, and of which layers each is made. One record, written whole at each command, so
 * whatever it says becomes true at one instant.
 *
 * What holds it together: a bitmap *is* the join of its layers. Before a transition the directory names the old layers and
 * the new ones; after it, when it has caught up with memory, the new ones alone. At every instant between, the join misses
 * nothing. A successor on disk under its parent is the freeze, and joining the two is the reclaim; only a record that names
 * the successor alone (an abdicate), or one that a group's decision completes, ends it otherwise.
 */
import { ByteReader, ByteWriter } from "./byte-cursor.ts";
import { JournalError } from "./journal-error.ts";
import { getJob, type JobEntry, putJob } from "./job-entry.ts";
import { directoryMagic, directorySlotBytes, frameBytes } from "./layout.ts";
import { type Frame, seal } from "./record.ts";

/** `bits`: the bitmap itself, or what a merge sets aside until it is folded. `successor`: its heir, while it is frozen. */
export type LayerRole = "bits" | "successor";

export interface LayerEntry {
  readonly id: number;
  readonly role: LayerRole;
  /** Bytes of the disk that it covers. */
  readonly length: number;
  /** Where its blocks begin in the file. */
  readonly offset: number;
}

/** An abdicate that is true once the group's decision stands in the named sidecar. */
export interface PendingAbdicate {
  /** 16 bytes, as 32 hexadecimal digits. */
  readonly group: string;
  readonly sidecar: string;
}

export interface BitmapEntry {
  readonly name: string;
  readonly granularity: number;
  readonly recording: boolean;
  /** Regions that are not settled count for it: it records, or did until a moment ago. */
  readonly unsettled: boolean;
  /** Why it says nothing any more. */
  readonly inconsistent: string | null;
  readonly layers: readonly LayerEntry[];
  readonly pending: PendingAbdicate | null;
  /** The resumable job that has it frozen. */
  readonly job: JobEntry | null;
}

/** What the image is known by. Times are nanoseconds; 0 where there are none (a device). */
export interface ImageIdentity {
  readonly kind: "file" | "device";
  /** Stable over restarts: of a file its inode and birth, of a device what the system names it by. */
  readonly name: string;
  readonly length: number;
  readonly modified: bigint;
  readonly changed: bigint;
}

export type StopKind = "clean" | "killed" | "power-loss";

/** How an earlier run ended, as the one after it found out. */
export interface RecoveryEntry {
  /** Milliseconds since the epoch: when it was recovered. */
  readonly at: number;
  readonly kind: StopKind;
  /** Regions that were not settled and counted as dirty. */
  readonly regions: number;
}

export interface Directory {
  /** Counts runs: one more at each attach. */
  readonly generation: number;
  readonly inUse: boolean;
  /** Of the running system, 16 bytes as hexadecimal digits: another one means that the page cache is gone. */
  readonly bootId: string;
  readonly openedAt: number;
  readonly closedAt: number;
  readonly image: ImageIdentity;
  /** While a resize is under way: the length that the image may have as well. */
  readonly nextLength: number | null;
  readonly regionBytes: number;
  /** Bytes that may be unsettled at once. */
  readonly bound: number;
  readonly nextLayer: number;
  readonly bitmaps: readonly BitmapEntry[];
  /** Groups whose success was decided here. */
  readonly decisions: readonly string[];
  readonly recoveries: readonly RecoveryEntry[];
}

const none = 2n ** 64n - 1n;
const roles: readonly LayerRole[] = ["bits", "successor"];
const kinds: readonly StopKind[] = ["clean", "killed", "power-loss"];
const recordingFlag = 1;
const unsettledFlag = 2;
const inconsistentFlag = 4;
const pendingFlag = 8;

/** @throws JournalError ERR_JOURNAL_FULL */
export function encodeDirectory(directory: Directory, tag: number, sequence: number): Uint8Array {
  const record = new Uint8Array(directorySlotBytes);
  const to = new ByteWriter(record, frameBytes);
  to.u64(directory.generation);
  to.u8(directory.inUse ? 1 : 0);
  to.u8(directory.image.kind === "file" ? 0 : 1);
  to.u16(directory.bitmaps.length);
  to.u16(directory.decisions.length);
  to.u16(directory.recoveries.length);
  to.bytes(Buffer.from(directory.bootId, "hex"));
  to.u64(directory.openedAt);
  to.u64(directory.closedAt);
  to.u64(directory.image.length);
  to.u64(directory.nextLength ?? none);
  to.u64(directory.image.modified);
  to.u64(directory.image.changed);
  to.u64(directory.regionBytes);
  to.u64(directory.bound);
  to.u32(directory.nextLayer);
  to.text(directory.image.name);
  for (const bitmap of directory.bitmaps) putBitmap(to, bitmap);
  for (const group of directory.decisions) to.bytes(Buffer.from(group, "hex"));
  for (const { at, kind, regions } of directory.recoveries) {
    to.u64(at);
    to.u8(kinds.indexOf(kind));
    to.u32(regions);
  }
  const jobs = directory.bitmaps.flatMap(({ job }, bitmap) => (job === null ? [] : [{ bitmap, job }]));
  to.u16(jobs.length);
  for (const { bitmap, job } of jobs) putJob(to, bitmap, job);
  seal(record, { magic: directoryMagic, tag, sequence, length: to.at });
  return record;
}

function putBitmap(to: ByteWriter, bitmap: BitmapEntry): void {
  const { recording, unsettled, inconsistent, pending } = bitmap;
  to.u8(
    (recording ? recordingFlag : 0) |
      (unsettled ? unsettledFlag : 0) |
      (inconsistent === null ? 0 : inconsistentFlag) |
      (pending === null ? 0 : pendingFlag),
  );
  to.u8(Math.log2(bitmap.granularity));
  to.u16(bitmap.layers.length);
  to.text(bitmap.name);
  for (const layer of bitmap.layers) {
    to.u32(layer.id);
    to.u8(roles.indexOf(layer.role));
    to.u64(layer.length);
    to.u64(layer.offset);
  }
  if (inconsistent !== null) to.text(inconsistent);
  if (pending !== null) {
    to.bytes(Buffer.from(pending.group, "hex"));
    to.text(pending.sidecar);
  }
}

/** @throws JournalError ERR_JOURNAL_DAMAGED */
export function decodeDirectory(record: Uint8Array, frame: Frame): Directory {
  const from = new ByteReader(record.subarray(0, frame.length), frameBytes);
  const generation = from.number();
  const inUse = from.u8() === 1;
  const kind = from.u8() === 0 ? "file" : "device";
  const bitmapCount = from.u16();
  const decisionCount = from.u16();
  const recoveryCount = from.u16();
  const bootId = hex(from.bytes(16));
  const openedAt = from.number();
  const closedAt = from.number();
  const length = from.number();
  const next = from.u64();
  const modified = from.u64();
  const changed = from.u64();
  const regionBytes = from.number();
  const bound = from.number();
  const nextLayer = from.u32();
  const name = from.text();
  const bitmaps = Array.from({ length: bitmapCount }, () => getBitmap(from));
  const decisions = Array.from({ length: decisionCount }, () => hex(from.bytes(16)));
  const recoveries = Array.from({ length: recoveryCount }, () => ({
    at: from.number(),
    kind: oneOf(kinds, from.u8()),
    regions: from.u32(),
  }));
  // A directory that was written before there were resumable jobs ends here.
  const jobs = Array.from({ length: from.atEnd ? 0 : from.u16() }, () => getJob(from));
  return {
    generation,
    inUse,
    bootId,
    openedAt,
    closedAt,
    image: { kind, name, length, modified, changed },
    nextLength: next === none ? null : Number(next),
    regionBytes,
    bound,
    nextLayer,
    bitmaps: bitmaps.map((bitmap, index) => ({
      ...bitmap,
      job: jobs.find((one) => one.bitmap === index)?.job ?? null,
    })),
    decisions,
    recoveries,
  };
}

function getBitmap(from: ByteReader): Omit<BitmapEntry, "job"> {
  const flags = from.u8();
  const granularity = 2 ** from.u8();
  const layerCount = from.u16();
  const name = from.text();
  const layers = Array.from({ length: layerCount }, () => ({
    id: from.u32(),
    role: oneOf(roles, from.u8()),
    length: from.number(),
    offset: from.number(),
  }));
  return {
    name,
    granularity,
    recording: (flags & recordingFlag) !== 0,
    unsettled: (flags & unsettledFlag) !== 0,
    inconsistent: (flags & inconsistentFlag) === 0 ? null : from.text(),
    layers,
    pending: (flags & pendingFlag) === 0 ? null : { group: hex(from.bytes(16)), sidecar: from.text() },
  };
}

function oneOf<Value>(values: readonly Value[], index: number): Value {
  const value = values[index];
  if (value === undefined)
    throw new JournalError("ERR_JOURNAL_DAMAGED", `journal: its directory holds a code of ${index}`);
  return value;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
