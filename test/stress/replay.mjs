/**
 * What the bitmaps must say, from the log of requests and commands of one round. It begins with what they were seen to say when
 * all was quiet, so nothing unknown adds up over rounds.
 *
 * A request belongs between two commands of its bitmap; one that ran across a command may belong on either side. The end of
 * a job is not such a border: what guests wrote since the freeze stays, whatever becomes of the frozen bits.
 */
import { clean, dirty, firstWrong, fromBits, granuleCount, join, joinAcross, mark, unknown } from "./granules.mjs";

/**
 * @typedef {{ begin: number, end: number, offset: number, length: number, sure: boolean }} Marked a request; `end` of one cut off by a death is the death's
 * @typedef {{ image: Uint8Array, bits: Map<string, { bits: Uint8Array, state: string }> }} Instant what a disk held with its gate closed
 * @typedef {{ disk: number, name: string }} BitmapRef
 *
 * @typedef {{ from: number, to: number } & (
 *   | { kind: "add", ref: BitmapRef, granularity: number, disabled: boolean, image: Uint8Array | undefined }
 *   | { kind: "remove" | "enable" | "disable", ref: BitmapRef }
 *   | { kind: "clear", ref: BitmapRef, image: Uint8Array | undefined }
 *   | { kind: "merge", ref: BitmapRef, sources: BitmapRef[] }
 *   | { kind: "instant", disk: number, instant: Instant }
 *   | { kind: "freeze", ref: BitmapRef, image: Uint8Array, bits: Uint8Array | undefined, onFreeze: (bitmap: BitmapModel) => void }
 *   | { kind: "end", ref: BitmapRef, outcome: "W" | "P|W" | "W|U", uncopied: Uint8Array | undefined }
 *   | { kind: "look", look: () => void }
 * )} Command
 */

/** A bitmap as the model has it. */
export class BitmapModel {
  /** @param {BitmapRef} ref @param {number} length bytes of the disk @param {number} granularity @param {boolean} recording */
  constructor(ref, length, granularity, recording) {
    this.ref = ref;
    this.length = length;
    this.granularity = granularity;
    this.recording = recording;
    this.granules = new Uint8Array(granuleCount(length, granularity));
    /** What guests mark while it is frozen. @type {Uint8Array | undefined} */
    this.heir = undefined;
    /** The disk when all bits were clean; undefined: not known. @type {Uint8Array | undefined} */
    this.checkpoint = undefined;
    /** @type {Uint8Array | undefined} */
    this.frozenImage = undefined;
    /** Bytes that the disk had since the checkpoint, where it was cut off since. */
    this.cutFrom = 0;
  }

  get label() {
    return `${this.ref.disk}/${this.ref.name}`;
  }

  /** @param {Marked} request @param {boolean} sure */
  mark(request, sure) {
    if (!this.recording) return;
    mark(
      this.heir ?? this.granules,
      this.granularity,
      request.offset,
      Math.min(request.length, this.length - request.offset),
      sure ? dirty : unknown,
    );
  }

  /** @param {Uint8Array} bits serialized */
  says(bits) {
    return fromBits(bits, this.granules.length);
  }
}

/** @typedef {(text: string, details: object) => void} Fail */

export class Replay {
  /** @param {Map<string, BitmapModel>} bitmaps by label; changed as the commands say @param {ReadonlyArray<readonly Marked[]>} requests of each disk @param {Command[]} commands @param {readonly number[]} lengths @param {Fail} fail */
  constructor(bitmaps, requests, commands, lengths, fail) {
    this.bitmaps = bitmaps;
    this.requests = requests;
    this.commands = commands.toSorted((a, b) => a.from - b.from);
    this.lengths = lengths;
    this.fail = fail;
    /** Borders of each bitmap that have passed. @type {Map<string, number>} */
    this.passed = new Map();
    /** Requests of each bitmap, by the number of borders before them. @type {Map<string, { request: Marked, sure: boolean }[][]>} */
    this.segments = new Map();
  }

  run() {
    for (const command of this.commands) this.#apply(command);
    for (const label of this.bitmaps.keys()) this.#advance(label);
  }

  /** @param {Command} command */
  #apply(command) {
    switch (command.kind) {
      case "look":
        command.look();
        return;
      case "end":
        this.#end(command);
        return;
      case "instant":
        for (const bitmap of this.#on(command.disk)) {
          this.#border(bitmap.label);
          this.#compare(bitmap, command.instant);
        }
        return;
      case "add": {
        const model = new BitmapModel(
          command.ref,
          this.lengths[command.ref.disk],
          command.granularity,
          !command.disabled,
        );
        model.checkpoint = command.disabled ? undefined : command.image;
        this.bitmaps.set(model.label, model);
        this.passed.delete(model.label);
        this.segments.delete(model.label);
        this.#border(model.label, command);
        return;
      }
      default:
        this.#change(command);
    }
  }

  /** @param {Extract<Command, { ref: BitmapRef }>} command */
  #change(command) {
    const bitmap = this.#get(command.ref);
    this.#border(bitmap.label);
    switch (command.kind) {
      case "remove":
        this.bitmaps.delete(bitmap.label);
        return;
      case "enable":
        bitmap.recording = true;
        return;
      case "disable":
        bitmap.recording = false;
        bitmap.checkpoint = undefined;
        return;
      case "clear":
        bitmap.granules.fill(clean);
        bitmap.cutFrom = 0;
        bitmap.checkpoint = bitmap.recording ? command.image : undefined;
        return;
      case "merge":
        for (const ref of command.sources) {
          const source = this.#get(ref);
          this.#border(source.label);
          if (source !== bitmap)
            joinAcross(bitmap.granules, bitmap.granularity, source.granules, source.granularity, bitmap.length);
          bitmap.cutFrom = Math.max(bitmap.cutFrom, source.cutFrom);
        }
        return;
      case "freeze":
        if (command.bits !== undefined) bitmap.granules = bitmap.says(command.bits);
        command.onFreeze(bitmap);
        bitmap.heir = new Uint8Array(bitmap.granules.length);
        bitmap.frozenImage = command.image;
        return;
      default:
    }
  }

  /** @param {Extract<Command, { kind: "end" }>} command */
  #end(command) {
    const bitmap = this.#get(command.ref);
    this.#advance(bitmap.label);
    const heir = bitmap.heir ?? new Uint8Array(bitmap.granules.length);
    if (command.outcome === "P|W") join(bitmap.granules, heir);
    else {
      bitmap.granules = heir;
      bitmap.cutFrom = 0;
      if (command.uncopied !== undefined && command.outcome === "W|U") join(bitmap.granules, command.uncopied);
      bitmap.checkpoint = bitmap.recording ? bitmap.frozenImage : undefined;
    }
    bitmap.heir = undefined;
    bitmap.frozenImage = undefined;
  }

  /** I1 and I5 at an instant. @param {BitmapModel} bitmap @param {Instant} instant */
  #compare(bitmap, instant) {
    const seen = instant.bits.get(bitmap.ref.name);
    if (seen === undefined || seen.state === "folding") return;
    if ((seen.state === "frozen") !== (bitmap.heir !== undefined)) return; // its job ends at this moment
    const actual = bitmap.says(seen.bits);
    this.judge(bitmap, actual, instant.image);
    if (bitmap.heir === undefined) bitmap.granules = actual;
  }

  /** @param {BitmapModel} bitmap @param {Uint8Array} actual granules @param {Uint8Array} image of the same instant */
  judge(bitmap, actual, image) {
    const wrong = firstWrong(bitmap.granules, actual);
    const where = (/** @type {number} */ granule) => ({
      bitmap: bitmap.label,
      granularity: bitmap.granularity,
      granule,
      offset: granule * bitmap.granularity,
    });
    if (wrong !== undefined) {
      const text =
        wrong.says === "clean"
          ? "I5: a bitmap lost what was written or frozen"
          : "I5: a bitmap says dirty what nobody wrote";
      this.fail(text, where(wrong.granule));
    }
    if (bitmap.checkpoint === undefined || bitmap.heir !== undefined) return;
    const at = firstChangedClean(bitmap, actual, image);
    if (at !== -1) this.fail("I1: a clean bit, but the disk is not what it was at the bitmap's checkpoint", where(at));
  }

  /** A border of this bitmap: what is surely before it has marked. @param {string} label */
  #border(label, after = /** @type {Command | undefined} */ (undefined)) {
    this.#advance(label, after);
    this.passed.set(label, (this.passed.get(label) ?? 0) + 1);
  }

  /** Marks what belongs before the next border. @param {string} label @param {Command} [created] */
  #advance(label, created) {
    const segments = this.segments.get(label) ?? this.#divide(label, created);
    const at = this.passed.get(label) ?? 0;
    const bitmap = this.bitmaps.get(label);
    if (bitmap === undefined || created !== undefined) return;
    for (const { request, sure } of segments[at].splice(0)) bitmap.mark(request, sure);
  }

  /** @param {string} label @param {Command} [created] its first border */
  #divide(label, created) {
    const bitmap = this.bitmaps.get(label);
    const [disk] = label.split("/").map(Number);
    const from = created === undefined ? 0 : this.commands.indexOf(created);
    const borders =
      bitmap === undefined ? [] : this.commands.slice(from).filter((command) => isBorder(command, bitmap.ref));
    /** @type {{ request: Marked, sure: boolean }[][]} */
    const segments = Array.from({ length: borders.length + 1 }, () => []);
    for (const request of this.requests[disk]) {
      let low = 0;
      while (low < borders.length && borders[low].to < request.begin) low++;
      let high = low;
      while (high < borders.length && borders[high].from <= request.end) high++;
      for (let at = low; at <= high; at++) {
        const [before, after] = [borders[at - 1], borders[at]];
        // Between two commands of one instant there is no room for a request.
        if (before !== undefined && after !== undefined && before.to === after.from && before.from === after.to)
          continue;
        segments[at].push({ request, sure: request.sure && low === high });
      }
    }
    this.segments.set(label, segments);
    return segments;
  }

  /** @param {number} disk */
  #on(disk) {
    return [...this.bitmaps.values()].filter((bitmap) => bitmap.ref.disk === disk);
  }

  /** @param {BitmapRef} ref */
  #get(ref) {
    const bitmap = this.bitmaps.get(`${ref.disk}/${ref.name}`);
    if (bitmap === undefined) throw new Error(`stress: the model has no bitmap ${ref.disk}/${ref.name}`);
    return bitmap;
  }
}

/** @param {Command} command @param {BitmapRef} ref */
function isBorder(command, ref) {
  if (command.kind === "look" || command.kind === "end") return false;
  if (command.kind === "instant") return command.disk === ref.disk;
  const same = (/** @type {BitmapRef} */ other) => other.disk === ref.disk && other.name === ref.name;
  if (command.kind === "merge" && command.ref !== undefined) {
    // In #change a source that is also the target, or is named twice, is a border each time.
    return same(command.ref) || command.sources.some(same);
  }
  return same(command.ref);
}

/** @param {BitmapModel} bitmap @param {Uint8Array} actual @param {Uint8Array} image @returns {number} granule, or -1 */
export function firstChangedClean(bitmap, actual, image) {
  const { checkpoint, granularity } = bitmap;
  if (checkpoint === undefined) return -1;
  const now = Buffer.from(image.buffer, image.byteOffset, image.length);
  const then = Buffer.from(checkpoint.buffer, checkpoint.byteOffset, checkpoint.length);
  for (let at = 0; at < actual.length;) {
    if (actual[at] !== clean) {
      at++;
      continue;
    }
    let end = at + 1;
    while (end < actual.length && actual[end] === clean) end++;
    const [from, to] = [at * granularity, Math.min(end * granularity, image.length)];
    if (now.compare(then, from, to, from, to) !== 0) {
      let offset = from;
      while (now[offset] === then[offset]) offset++;
      return Math.floor(offset / granularity);
    }
    at = end;
  }
  return -1;
}
