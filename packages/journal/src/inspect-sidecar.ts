/**
 * Looks at a sidecar from outside, for a person: what it says, whether every byte of it that counts is whole, and what the next
 * attach would make of it. Changes nothing and takes no lock, so it works while a process has the image; what that process
 * rewrites meanwhile is read again.
 */
import { statSync } from "node:fs";
import { byteLockedElsewhere, closeFile, errnoName, O_RDONLY, openFile } from "@heirloom/block";
import { SharedBitmap } from "@heirloom/bitmap";
import { isBlock } from "./block.ts";
import type { BitmapEntry, Directory, LayerEntry } from "./directory.ts";
import { readFailed } from "./failed-mark.ts";
import { bootId, identify, sidecarPath } from "./identity.ts";
import { JournalError } from "./journal-error.ts";
import * as layout from "./layout.ts";
import { judge, type Judgement, readSidecar, type Sidecar } from "./recover.ts";
import { recoverBits } from "./recover-bits.ts";
import { openRecord } from "./record.ts";
import { FileStorage, type Storage } from "./storage.ts";

export interface SidecarLocation {
  /** The image or device. */
  readonly filename: string;
  /** Bytes of it. */
  readonly length: number;
  readonly path?: string | undefined;
  readonly directory?: string | undefined;
}

export interface InspectedBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly recording: boolean;
  /** A backup is under way, or was when the process ended: it has a successor. */
  readonly frozen: boolean;
  /** The resumable backup that has it, which goes on after a restart. */
  readonly job: { readonly id: string; readonly target: string; readonly frozenAt: number } | null;
  /** Why it says nothing any more, or would say nothing after the next attach. */
  readonly inconsistent: string | null;
  /** Bytes: what it would say after an attach now. While a process has the image: what is in the journal, never less than it says. */
  readonly dirty: number;
  /** Blocks that are not whole: all of their granules count as dirty. */
  readonly damaged: number;
}

export interface SidecarInspection {
  readonly path: string;
  /** Bytes of the file. */
  readonly bytes: number;
  readonly version: number;
  readonly createdAt: number;
  /** A process has the image now. */
  readonly inUse: boolean;
  /** How the last run ended; of one that is not over, what it would be if it ended now. */
  readonly stop: Judgement["kind"];
  readonly directory: Directory;
  /** Regions that were being written and are not settled; undefined where neither record of them is whole. */
  readonly regions: number | undefined;
  readonly bitmaps: readonly InspectedBitmap[];
  /** Two copies each, or two slots written in turn: how many of those written are not whole. One whole copy is enough. */
  readonly torn: { readonly superblocks: number; readonly marks: number; readonly directories: number };
  /** What is wrong with it, in sentences. */
  readonly faults: readonly string[];
  /** Bytes of the file that nothing stands in; new layers of bits go there. */
  readonly unused: number;
}

/** @returns undefined where the image has no sidecar @throws JournalError where it is no sidecar, of another version, or cannot be read */
export function inspectSidecar(location: SidecarLocation): SidecarInspection | undefined {
  const path = location.path ?? sidecarPath(location.filename, location.directory);
  const fd = openFile(path, O_RDONLY);
  if (fd < 0) {
    if (errnoName(-fd) === "ENOENT") return undefined;
    throw new JournalError("ERR_JOURNAL_IO", `open journal '${path}': ${errnoName(-fd)}`);
  }
  try {
    return inspect(location, path, fd);
  } finally {
    closeFile(fd);
  }
}

/** Byte 201 is what a writer of the sidecar keeps from others (block's image locks). */
const writersLock = 201;
/** What a writer was in the middle of is whole a moment later. */
const readAgainMax = 20;

function inspect({ filename, length }: SidecarLocation, path: string, fd: number): SidecarInspection {
  const storage = new FileStorage(fd);
  const inUse = byteLockedElsewhere(fd, writersLock) === 1;
  const sidecar = readSidecar(storage, path);
  const { directory, marks, superblock } = sidecar;
  const image = identify(filename, length);
  const judgement = judge(sidecar, image, bootId());
  // The image's times and length may change under a process that has it.
  const believed = inUse && directory.image.name === image.name ? undefined : judgement.distrust;
  const distrust = believed ?? readFailed({ path, filename, uuid: superblock.uuid });
  const torn = tornCopies(storage, sidecar);
  const bytes = statSync(path).size;
  const bitmaps = directory.bitmaps.map((entry) => inspectBitmap(storage, sidecar, entry, distrust, judgement, inUse));
  const faults = [
    ...faultsOfPlaces(directory, bytes),
    ...(marks === undefined && distrust === undefined
      ? ["neither record of the regions that were being written is whole"]
      : []),
    ...(distrust === undefined ? [] : [distrust]),
    ...bitmaps.filter(({ damaged }) => damaged > 0).map(damagedText),
  ];
  return {
    path,
    bytes,
    version: layout.formatVersion,
    createdAt: superblock.createdAt,
    inUse,
    stop: judgement.kind,
    directory,
    regions: marks?.filter((region) => region * directory.regionBytes < length).length,
    bitmaps,
    torn,
    faults,
    unused: inUse ? 0 : unusedBytes(directory, bytes),
  };
}

function damagedText({ name, damaged }: InspectedBitmap): string {
  const blocks = damaged === 1 ? "1 block" : `${damaged} blocks`;
  return `bitmap '${name}': ${blocks} not whole, whose granules count as dirty`;
}

function inspectBitmap(
  storage: Storage,
  sidecar: Sidecar,
  entry: BitmapEntry,
  distrust: string | undefined,
  { kind }: Judgement,
  inUse: boolean,
): InspectedBitmap {
  const { name, granularity, recording, layers } = entry;
  const inconsistent = entry.inconsistent ?? distrust ?? null;
  const frozen = layers.some(({ role }) => role === "successor");
  const job =
    entry.job === null ? null : { id: entry.job.id, target: entry.job.targetName, frozenAt: entry.job.frozenAt };
  const known = { name, granularity, recording: recording && inconsistent === null, frozen, job, inconsistent };
  const lengthMax = Math.max(0, ...layers.map((layer) => layer.length));
  if (inconsistent !== null || lengthMax === 0) return { ...known, dirty: 0, damaged: 0 };
  const bits = SharedBitmap.create(lengthMax, granularity);
  const steady = inUse ? new Rereading(storage, sidecar.tag, layers) : storage;
  const { errno, damaged } = recoverBits(steady, sidecar, entry, { decided: false, lost: kind === "power-loss" }, bits);
  if (errno !== 0)
    throw new JournalError("ERR_JOURNAL_IO", `read bitmap '${name}' of the journal: ${errnoName(errno)}`);
  return { ...known, dirty: bits.count(), damaged };
}

/** Storage under somebody's hands: blocks that were torn by a write are read until they are whole. */
class Rereading implements Storage {
  readonly #storage: Storage;
  readonly #tag: number;
  readonly #layers: readonly LayerEntry[];

  constructor(storage: Storage, tag: number, layers: readonly LayerEntry[]) {
    this.#storage = storage;
    this.#tag = tag;
    this.#layers = layers;
  }

  read(buffer: Uint8Array, offset: number): number {
    const errno = this.#storage.read(buffer, offset);
    const layer = this.#layers.findLast((one) => one.offset <= offset);
    if (errno !== 0 || layer === undefined) return errno;
    for (let at = 0; at < buffer.length; at += layout.blockBytes) {
      const block = buffer.subarray(at, at + layout.blockBytes);
      const index = (offset + at - layer.offset) / layout.blockBytes;
      for (let tries = 0; tries < readAgainMax && !isBlock(block, this.#tag, layer.id, index); tries++)
        this.#storage.read(block, offset + at);
    }
    return 0;
  }
  write(): number {
    throw new Error("journal: nothing is written here");
  }
  sync(): number {
    throw new Error("journal: nothing is written here");
  }
}

function tornCopies(storage: Storage, { tag }: Sidecar): SidecarInspection["torn"] {
  const count = (offset: number, bytes: number, magic: number, own: number | undefined): number =>
    [0, 1].filter((slot) => {
      const record = new Uint8Array(bytes);
      const isWritten = storage.read(record, offset + slot * bytes) === 0 && record.some((byte) => byte !== 0);
      return isWritten && openRecord(record, magic, own) === undefined;
    }).length;
  return {
    superblocks: count(layout.superblockAt, layout.superblockBytes, layout.superblockMagic, undefined),
    marks: count(layout.marksAt, layout.marksSlotBytes, layout.marksMagic, tag),
    directories: count(layout.directoryAt, layout.directorySlotBytes, layout.directoryMagic, tag),
  };
}

interface Place {
  readonly offset: number;
  readonly end: number;
}

/** Of all layers, ascending. */
function places({ bitmaps }: Directory): Place[] {
  return bitmaps
    .flatMap(({ layers, granularity, job }) => [
      ...layers.map((layer) => ({ layer, unit: granularity })),
      ...(job === null ? [] : [{ layer: job.set, unit: granularity }]),
      ...(job === null ? [] : [job.copied, job.flushed].map((layer) => ({ layer, unit: job.clusterSize }))),
    ])
    .map(({ layer: { offset, length }, unit }) => ({ offset, end: offset + layout.layerBytes(length, unit) }))
    .sort((one, other) => one.offset - other.offset);
}

function faultsOfPlaces(directory: Directory, bytes: number): string[] {
  const faults: string[] = [];
  let end = layout.layersAt;
  for (const place of places(directory)) {
    if (place.offset < end) faults.push(`two layers of bits overlap at ${place.offset}`);
    if (place.end > bytes) faults.push(`a layer of bits ends at ${place.end}, and the file at ${bytes}`);
    end = Math.max(end, place.end);
  }
  return faults;
}

function unusedBytes(directory: Directory, bytes: number): number {
  let unused = 0;
  let end = layout.layersAt;
  for (const place of places(directory)) {
    unused += Math.max(0, place.offset - end);
    end = Math.max(end, place.end);
  }
  return unused + Math.max(0, bytes - end);
}
