/**
 * A disk with persistent bitmaps, guests and commands, all in one thread: the journal's own code does every write and sync, and
 * guests run a piece further wherever a command waits. What the engine and the runtime do around it (the gate, the table, the
 * marks) is written out here in a few lines.
 */
import { SharedBitmap } from "../../packages/bitmap/dist/index.js";
import { BlockBits, layerMemoryWords } from "../../packages/journal/dist/block-bits.js";
import { foldInto } from "../../packages/journal/dist/fold.js";
import { Journal } from "../../packages/journal/dist/journal.js";
import { lockWord, marksLayout } from "../../packages/journal/dist/marks-layout.js";
import { RegionMarks } from "../../packages/journal/dist/region-marks.js";
import { readSidecar } from "../../packages/journal/dist/recover.js";
import { createLayer, createSidecar, writeDirectory } from "../../packages/journal/dist/steps.js";
import { copyModel, newLife } from "./model.mjs";
import { Recorder } from "./recording.mjs";

export const granularity = 512;
export const regionBytes = 2 ** 20;
/** Two blocks and a piece, three regions of which two may be marked. */
export const diskBytes = 3 * 2 ** 20;
export const granules = diskBytes / granularity;
export const markedMax = 2;
const bound = markedMax * regionBytes;

/** Places that guests write: few, on both sides of every border of blocks and regions. */
const places = [0, 1, 31, 32, 2047, 2048, 3838, 3839, 3840, 3841, 4095, 4096, 5000, granules - 1];

/** @typedef {{ kept: any, bits: any, marks: any }} Layer */

export class World {
  /** @param {import("../stress/random.mjs").Random} random */
  constructor(random) {
    this.random = random;
    this.recorder = new Recorder(2 ** 18);
    this.storage = this.recorder.storage();
    this.content = new Int32Array(granules);
    this.nextVersion = 1;
    /** @type {import("./model.mjs").Model} */
    this.model = { bitmaps: new Map(), inFlight: new Set(), job: undefined };
    /** Of a resumable job. @type {import("./job-view.mjs").JobView | undefined} */
    this.view = undefined;
    /** @type {Map<string, { bits: Layer, successor: Layer | undefined, records: boolean }>} */
    this.bitmaps = new Map();
    /** Lives that no crash may find yet, which guests' writes belong to as well. @type {Map<import("./model.mjs").Life, string>} */
    this.coming = new Map();
    /** @type {Map<number, number>} */
    this.flying = new Map();
    /** Guests in the middle of a write. @type {{ steps: Generator<string, void, void>, at: string }[]} */
    this.guests = [];
    const regions = diskBytes / regionBytes;
    const words = new Int32Array(new SharedArrayBuffer(marksLayout(regions).bytes));
    const superblock = { uuid: new Uint8Array(16).fill(7), createdAt: 1 };
    this.#create(superblock);
    const sidecar = readSidecar(this.storage, "test");
    this.marks = new RegionMarks({
      words,
      storage: this.storage,
      tag: sidecar.tag,
      regionBytes,
      regions,
      markedMax,
      holder: 1,
      waitOutside: () => this.#letOut(),
      syncImage: () => {
        this.syncImage();
        if (Atomics.load(words, lockWord) === 0) this.mingle(); // a settler keeps nobody out
        return 0;
      },
    });
    this.marks.adopt([], sidecar.marksSequence);
    this.journal = new Journal(sidecar, {
      createLayer: async (/** @type {any} */ layer) => this.#io(() => createLayer(this.storage, sidecar.tag, layer)),
      writeDirectory: async (/** @type {Uint8Array} */ record, /** @type {number} */ sequence) =>
        this.#io(() => writeDirectory(this.storage, record, sequence)),
    });
    this.recorder.log.length = 0; // a crash while it is made leaves no sidecar, and nobody was told of one
    this.base = this.recorder.journal.slice();
    this.tell();
  }

  /** The model as it is now belongs to all that is written from here on. */
  tell() {
    this.recorder.model = copyModel(this.model);
  }

  syncImage() {
    this.recorder.add({ file: "image", type: "sync" });
    return 0;
  }

  /** A guest goes a piece further, or a new one begins. */
  mingle() {
    while (this.random.chance(40)) {
      if (this.guests.length < 3 && this.random.chance(60)) this.#begin();
      else if (this.guests.length > 0) this.#advance(this.random.pick(this.guests));
    }
  }

  /** Gates closed: nobody is inside. @param {() => void} commit */
  transition(commit) {
    this.#letOut();
    // What is journaled and not marked yet stays in the layers of before, wherever the write itself is counted.
    for (const bitmap of this.model.bitmaps.values())
      for (const life of bitmap.lives) for (const granule of this.model.inFlight) life.optional.add(granule);
    commit();
    this.tell();
  }

  /** No guest is at work with what it saw before. */
  quiesce() {
    while (this.guests.length > 0) this.#advance(this.guests[0]);
  }

  /** @param {string} role @returns {Promise<Layer>} */
  async layer(role = "bits") {
    const kept = await this.journal.newLayer(diskBytes, granularity, /** @type {any} */ (role));
    const bits = new BlockBits({
      storage: this.storage,
      tag: this.journal.tag,
      layer: kept.id,
      offset: kept.offset,
      length: diskBytes,
      granularity,
      words: new Int32Array(new SharedArrayBuffer(layerMemoryWords(diskBytes, granularity) * 4)),
      holder: 1,
    });
    return { kept, bits, marks: SharedBitmap.create(diskBytes, granularity) };
  }

  /** @param {Layer} into @param {SharedBitmap} from */
  fold(into, from) {
    const errno = foldInto(into.bits, into.marks, from);
    if (errno !== 0) throw new Error(`fold: ${errno}`);
    this.mingle();
  }

  /** What guests mark now. @returns {Layer[]} */
  recording() {
    return [...this.bitmaps.values()].filter((one) => one.records).map((one) => one.successor ?? one.bits);
  }

  #begin() {
    const first = this.random.pick(places);
    const count = Math.min(this.random.pick([1, 1, 1, 2, 3]), granules - first);
    const guest = { steps: this.#write(first, count), at: "outside" };
    this.guests.push(guest);
    this.#advance(guest);
  }

  /** @param {{ steps: Generator<string, void, void>, at: string }} guest */
  #advance(guest) {
    const { value, done } = guest.steps.next();
    if (done === true) this.guests.splice(this.guests.indexOf(guest), 1);
    else guest.at = value;
  }

  /** Everybody inside the gate comes out. */
  #letOut() {
    for (const guest of [...this.guests])
      while (guest.at === "inside" && this.guests.includes(guest)) this.#advance(guest);
    return true;
  }

  /** A guest's write, as DiskIo does it. @param {number} first @param {number} count @returns {Generator<string, void, void>} */
  *#write(first, count) {
    const offset = first * granularity;
    const length = count * granularity;
    this.#fly(first, count, 1);
    for (;;) {
      const layers = this.recording();
      const marked = layers.length === 0 || this.marks.covers(offset, length);
      if (marked) yield "inside";
      if (marked && layers.every(({ bits }) => bits.covers(offset, length))) break;
      yield "outside";
      for (const { bits } of layers) if (bits.journal(offset, length, true) !== 0) throw new Error("journal");
      if (layers.length > 0 && this.marks.mark(offset, length, true) !== 0) throw new Error("mark");
      yield "outside";
    }
    for (let granule = first; granule < first + count; granule++) this.view?.preserve(granule);
    for (const { marks } of this.recording()) marks.set(offset, length);
    for (let granule = first; granule < first + count; granule++) {
      for (const bitmap of this.model.bitmaps.values())
        if (bitmap.recording !== false) for (const life of bitmap.lives) life.dirty.add(granule);
      for (const life of this.coming.keys()) life.dirty.add(granule);
      this.content[granule] = this.nextVersion++;
      // The bit counts from the moment at which the data may be there; until the write is over it may be extra.
      this.tell();
      this.recorder.add({ file: "image", type: "write", granule, version: this.content[granule] });
    }
    yield "inside";
    this.#fly(first, count, -1);
  }

  /** Writes to a granule that have begun and are not over. @param {number} first @param {number} count @param {number} change */
  #fly(first, count, change) {
    for (let granule = first; granule < first + count; granule++) {
      const flying = (this.flying.get(granule) ?? 0) + change;
      this.flying.set(granule, flying);
      if (flying > 0) this.model.inFlight.add(granule);
      else this.model.inFlight.delete(granule);
    }
    this.tell();
  }

  /** @param {() => number} work */
  #io(work) {
    this.mingle();
    const errno = work();
    this.mingle();
    return errno;
  }

  /** @param {{ uuid: Uint8Array, createdAt: number }} superblock */
  #create(superblock) {
    const errno = createSidecar(this.storage, superblock, {
      generation: 1,
      inUse: true,
      bootId: "00".repeat(16),
      openedAt: 1,
      closedAt: 0,
      image: { kind: "file", name: "test", length: diskBytes, modified: 0n, changed: 0n },
      nextLength: null,
      regionBytes,
      bound,
      nextLayer: 1,
      bitmaps: [],
      decisions: [],
      recoveries: [],
    });
    if (errno !== 0) throw new Error(`create: ${errno}`);
  }

  /** @param {import("./model.mjs").Life} life @param {string} name */
  following(life, name) {
    this.coming.set(life, name);
  }
  /** @param {import("./model.mjs").Life} life */
  unfollow(life) {
    this.coming.delete(life);
  }

  /** @param {string} name @param {Int32Array} content */
  life(name, content) {
    const bitmap = this.model.bitmaps.get(name);
    if (bitmap === undefined) throw new Error(`no bitmap ${name}`);
    const life = newLife(content);
    bitmap.lives.push(life);
    return life;
  }
}
