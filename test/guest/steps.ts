/**
 * What a disk may hold at one instant while the guest writes (writer.sh). The last line of the log says how far it was: step
 * n. Then all of steps 1 to n is there; of step n + 1 there may be a part; and nothing of any later one. Whatever mixes two
 * instants, comes too late or misses a block breaks one of these rules.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A file is deleted that many steps after its own. */
export const keptFiles = 24;
export const ringSlots = 64;
export const slotLength = 65536;
const pageLength = 4096;
const sectorLength = 512;

/** A line of a step: 16 bytes. */
export function line(step: number): string {
  return `${String(step).padStart(15, "0")}\n`;
}

/** All lines say the same step. */
export function filled(step: number, length: number): Buffer {
  return Buffer.alloc(length, line(step));
}

export function fileLength(step: number): number {
  return (((step * 7) % 13) + 1) * pageLength;
}

/** What a file system holds before the guest's first step. */
export const beginning = { "files/": undefined, ring: filled(0, ringSlots * slotLength), log: Buffer.alloc(0) };

export interface Instant {
  /** The step that the log ends with. */
  readonly step: number;
  /** What is not as it may be at that step, sentences. */
  readonly faults: string[];
}

/** @param directory what the file system at that instant holds */
export function instantOf(directory: string): Instant {
  const log = bytesOf(join(directory, "log"));
  const step = Math.floor(log.length / line(0).length);
  return {
    step,
    faults: [
      ...logFaults(log, step),
      ...ringFaults(bytesOf(join(directory, "ring")), step),
      ...fileFaults(join(directory, "files"), step),
    ],
  };
}

/** Whole lines, from step 1 on, none missing. */
function* logFaults(log: Buffer, step: number): Generator<string> {
  const expected = Array.from({ length: step }, (_, index) => line(index + 1)).join("");
  if (!log.equals(Buffer.from(expected)))
    yield `log: expected the lines 1 to ${step}, got ${log.length} bytes that differ`;
}

/** Each slot holds the newest step that went there; the next step's may be half written, by whole sectors. */
function* ringFaults(ring: Buffer, step: number): Generator<string> {
  if (ring.length !== ringSlots * slotLength)
    yield `ring: expected ${ringSlots * slotLength} bytes, got ${ring.length}`;
  for (let slot = 0; slot < ringSlots; slot++) {
    const content = ring.subarray(slot * slotLength, (slot + 1) * slotLength);
    const newest = step - ((step - slot + ringSlots) % ringSlots);
    const stable = filled(Math.max(0, newest), slotLength);
    if (content.equals(stable)) continue;
    if (slot !== (step + 1) % ringSlots) yield `ring: slot ${slot} does not say ${newest}, the log ends with ${step}`;
    else if (!isMixture(content, stable, filled(step + 1, slotLength)))
      yield `ring: slot ${slot} says neither ${newest} nor ${step + 1}`;
  }
}

function isMixture(content: Buffer, one: Buffer, other: Buffer): boolean {
  for (let at = 0; at < content.length; at += sectorLength) {
    const sector = content.subarray(at, at + sectorLength);
    if (!sector.equals(one.subarray(at, at + sectorLength)) && !sector.equals(other.subarray(at, at + sectorLength)))
      return false;
  }
  return true;
}

/** The last 24 files, whole; the one before them may be deleted already, the one after them may have begun. */
function* fileFaults(directory: string, step: number): Generator<string> {
  const present = new Set(existsSync(directory) ? readdirSync(directory) : []);
  for (let n = Math.max(1, step - keptFiles + 1); n <= step; n++) {
    if (!present.delete(String(n))) yield `files: ${n} is missing, the log ends with ${step}`;
    else if (!bytesOf(join(directory, String(n))).equals(filled(n, fileLength(n))))
      yield `files: ${n} has other content`;
  }
  for (const name of present) {
    const n = Number(name);
    const content = bytesOf(join(directory, name));
    if (n === step - keptFiles && content.equals(filled(n, fileLength(n)))) continue;
    if (n === step + 1 && content.equals(filled(n, fileLength(n)).subarray(0, content.length))) continue;
    yield `files: ${name} should not be there, the log ends with ${step}`;
  }
}

function bytesOf(path: string): Buffer {
  return existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
}
