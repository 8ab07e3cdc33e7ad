/**
 * What must hold, told and looked at by whoever has the baton: what the disk held at each instant, which bitmaps record,
 * what was written since. It looks into the bitmaps and views with the `Atomics` of old, so a look is no step.
 *
 * Immediate checks, before each half of a cluster of a watched disk is overwritten: no gate is closed and committed, the
 * cluster is marked in every bitmap that records (I1), and preserved in every view that stands and needs it (I2). The
 * others look at what a schedule has left (world.mjs).
 */
import { closedWord as gateClosed } from "../../packages/engine/dist/gate-layout.js";
import { brokenWord, stoppedWord } from "../../packages/engine/dist/view-layout.js";
import { clusterSize, diskBytes, storage } from "./disks.mjs";
import { lab, original } from "./lab.mjs";

const load = /** @type {(words: Int32Array, index: number) => number} */ (Reflect.get(original, "load"));

const closedWord = 0;
const givenBackCount = 1;
const startedWord = 2;
const notesStart = 3; // a scenario's own, ten of them
const recorderStart = 16;
const viewStart = 32;
const writtenStart = 64; // 16 recorders by 64 clusters
const givenBackStart = writtenStart + 16 * 64;

export class Oracle {
  /** @param {SharedArrayBuffer} words @param {SharedArrayBuffer} images */
  constructor(words, images) {
    this.words = new Int32Array(words);
    this.images = new Uint8Array(images);
    /** By number, what each bitmap and view is; every thread has its own sight of them. @type {{ bitmap: any, disk: number, base: number }[]} */
    this.recorders = [];
    /** @type {{ view: any, disk: number, base: number, image: number, target: number }[]} */
    this.views = [];
    /** @type {Int32Array[]} */
    this.gates = [];
    /** Disks behind these gates. @type {number[]} */
    this.watched = [];
  }

  reset() {
    this.words.fill(0);
    this.recorders = [];
    this.views = [];
  }

  /** Threads that were told to begin, as bits. */
  get started() {
    return this.words[startedWord];
  }
  set started(bits) {
    this.words[startedWord] = bits;
  }
  /** A scenario's own words. @param {number} index below 10 */
  noted(index) {
    return this.words[notesStart + index];
  }
  /** @param {number} index @param {number} value */
  note(index, value) {
    this.words[notesStart + index] = value;
  }

  /** @param {boolean} closed */
  setClosed(closed) {
    this.words[closedWord] = closed ? 1 : 0;
  }
  /** @param {number} recorder @param {boolean} active */
  setRecording(recorder, active) {
    this.words[recorderStart + recorder] = active ? 1 : 0;
  }
  /** @param {number} view @param {boolean} stands */
  setStanding(view, stands) {
    this.words[viewStart + view] = stands ? 1 : 0;
  }
  /** Whether a cluster was written while the bitmap recorded. @param {number} recorder @param {number} cluster */
  written(recorder, cluster) {
    return this.words[writtenStart + recorder * 64 + cluster] !== 0;
  }

  /** Keeps what a disk holds now. @param {number} image @param {number} disk */
  take(image, disk) {
    this.images.set(storage.bytes.subarray(disk * diskBytes, (disk + 1) * diskBytes), image * diskBytes);
  }
  /** @param {number} image @param {number} cluster */
  imageOf(image, cluster) {
    return this.images.subarray(
      image * diskBytes + cluster * clusterSize,
      image * diskBytes + (cluster + 1) * clusterSize,
    );
  }

  /** Nobody touches this memory any more. @param {number} from @param {number} to */
  giveBack(from, to) {
    const count = this.words[givenBackCount]++;
    this.words[givenBackStart + count * 2] = from;
    this.words[givenBackStart + count * 2 + 1] = to;
  }
  /** @param {number} offset */
  wasGivenBack(offset) {
    for (let index = 0; index < this.words[givenBackCount]; index++) {
      if (offset >= this.words[givenBackStart + index * 2] && offset < this.words[givenBackStart + index * 2 + 1])
        return true;
    }
    return false;
  }

  /** @param {number} disk @param {number} offset */
  beforeWrite(disk, offset) {
    const error = lab.quietly(() => this.#errorOf(disk, offset));
    if (error !== undefined) lab.fail(error);
  }

  /** @param {number} disk @param {number} offset */
  #errorOf(disk, offset) {
    const { words } = this;
    if (
      words[closedWord] !== 0 &&
      this.watched.includes(disk) &&
      this.gates.every((gate) => load(gate, gateClosed) !== 0)
    ) {
      return "a guest writes between the commit of a transition and the opening of the gate";
    }
    for (const [index, { bitmap, disk: of, base }] of this.recorders.entries()) {
      const at = offset - base;
      if (words[recorderStart + index] === 0 || of !== disk || at < 0 || at >= bitmap.length) continue;
      if (!bitmap.test(at))
        return `I1: bytes at ${offset} are written before bitmap ${index}, which records, has them marked`;
      words[writtenStart + index * 64 + Math.floor(at / clusterSize)] = 1;
    }
    for (const [index, { view, disk: of, base }] of this.views.entries()) {
      const at = offset - base;
      if (words[viewStart + index] === 0 || of !== disk || at < 0 || at >= view.length) continue;
      const cluster = Math.floor(at / view.clusterSize);
      if (this.isOver(view) || this.isPreserved(view, cluster) || this.isRetired(view, cluster) || !view.inSet(cluster))
        continue;
      return `I2: cluster ${cluster} is overwritten while view ${index} stands and still needs it`;
    }
    return undefined;
  }

  /** Whatever is said to be copied is on the target, as it was at the instant (I2). @param {number} offset of a word that was just set */
  copiedError(offset) {
    for (const [index, { view, base, image, target }] of this.views.entries()) {
      const word = (offset - view.copied.byteOffset) / 4;
      if (word < 0 || word >= view.copied.length) continue;
      for (let cluster = word * 32; cluster < Math.min(view.clusters, word * 32 + 32); cluster++) {
        if (((view.copied[word] >>> (cluster & 31)) & 1) === 0) continue;
        const from = target * diskBytes + cluster * clusterSize;
        const held = storage.bytes.subarray(from, from + clusterSize);
        const expected = this.imageOf(image, base / clusterSize + cluster);
        if (Buffer.compare(held, expected) !== 0)
          return `I2: view ${index} says that cluster ${cluster} is copied, but the target holds ${held[0]}|${held[clusterSize - 4]}; at the instant it was ${expected[0]} (first bytes)`;
      }
    }
    return undefined;
  }

  /** @param {any} view */
  isOver(view) {
    return load(view.words, stoppedWord) !== 0 || load(view.words, brokenWord) !== 0;
  }
  /** @param {any} view @param {number} cluster */
  isRetired(view, cluster) {
    return ((load(view.retired, cluster >>> 5) >>> (cluster & 31)) & 1) !== 0;
  }
  /** @param {any} view @param {number} cluster */
  isPreserved(view, cluster) {
    return ((load(view.preserved, cluster >>> 5) >>> (cluster & 31)) & 1) !== 0;
  }
}
