/**
 * A sidecar and an image, and of a resumable job its spill and its target, whose writes and syncs are written down in one log, in the order in which they happened. Any crash is a
 * prefix of the log: after a kill all of it is there; after a power loss what was synced, and of the rest any part.
 *
 * @typedef {{ file: "journal", type: "write", offset: number, bytes: Uint8Array }
 *   | { file: "spill", type: "write", offset: number, bytes: Uint8Array }
 *   | { file: "spill", type: "make", bytes: Uint8Array }
 *   | { file: "journal" | "spill" | "image" | "target", type: "sync" }
 *   | { file: "image" | "target", type: "write", granule: number, version: number }} Step
 */
export const sectorBytes = 512;

export class Recorder {
  /** @param {number} journalBytes */
  constructor(journalBytes) {
    /** @type {(Step & { model: import("./model.mjs").Model })[]} */
    this.log = [];
    /** @type {import("./model.mjs").Model} */
    this.model = /** @type {any} */ (undefined);
    this.journal = new Uint8Array(journalBytes);
  }

  /** @param {Step} step */
  add(step) {
    this.log.push({ ...step, model: this.model });
  }

  /** The sidecar as the code under test sees it. */
  storage() {
    return {
      read: (/** @type {Uint8Array} */ buffer, /** @type {number} */ offset) => {
        buffer.fill(0);
        buffer.set(this.journal.subarray(offset, offset + buffer.length));
        return 0;
      },
      write: (/** @type {Uint8Array} */ buffer, /** @type {number} */ offset) => {
        if (offset % sectorBytes !== 0 || buffer.length % sectorBytes !== 0)
          throw new Error(`a write of ${buffer.length} at ${offset}`);
        this.add({ file: "journal", type: "write", offset, bytes: buffer.slice() });
        this.journal.set(buffer, offset);
        return 0;
      },
      sync: () => {
        this.add({ file: "journal", type: "sync" });
        return 0;
      },
    };
  }
}

/** Bytes of one state after a crash: a base that many states share, and sectors that differ. */
export class CrashedStorage {
  /** @param {Uint8Array} base @param {Map<number, Uint8Array>} sectors by number */
  constructor(base, sectors) {
    this.base = base;
    this.sectors = sectors;
  }
  /** @param {Uint8Array} buffer @param {number} offset */
  read(buffer, offset) {
    buffer.fill(0);
    buffer.set(this.base.subarray(offset, offset + buffer.length));
    for (const [sector, bytes] of this.sectors) {
      const at = sector * sectorBytes - offset;
      if (at >= 0 && at + sectorBytes <= buffer.length) buffer.set(bytes, at);
    }
    return 0;
  }
  /** All of it. */
  materialize() {
    const bytes = this.base.slice();
    for (const [sector, content] of this.sectors) bytes.set(content, sector * sectorBytes);
    return bytes;
  }
  write() {
    return 30;
  }
  sync() {
    return 30;
  }
}
