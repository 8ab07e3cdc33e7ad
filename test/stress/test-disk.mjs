/** A disk of an epoch: its image file, the node that is attached, and what the stress knows of it from outside. */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Rules of a decorated source, asleep until a round arms one; by index. */
export const sourceRules = /** @type {const} */ ([
  { name: "read error", rule: { kind: "read", nth: 3, action: { error: "EIO" } }, errors: true },
  { name: "write error", rule: { kind: "write", nth: 5, action: { error: "EIO" } }, errors: true },
  { name: "read delay", rule: { kind: "read", every: 5, action: { delayMs: 3 } }, errors: false },
  { name: "write delay", rule: { kind: "write", every: 7, action: { delayMs: 4 } }, errors: false },
  { name: "read exit", rule: { kind: "read", nth: 20, action: { exit: true } }, errors: false },
  { name: "write exit", rule: { kind: "write", nth: 30, action: { exit: true } }, errors: false },
  { name: "write hang", rule: { kind: "write", nth: 9, action: { hang: true } }, errors: false },
  { name: "many read errors", rule: { kind: "read", nth: 2, every: 9, action: { error: "EIO" } }, errors: true },
  { name: "slow reads", rule: { kind: "read", every: 1, action: { delayMs: 2 } }, errors: false },
]);

/** Rules of a mirror (a disk that backups write): hangs that a test lets go of. */
export const mirrorRules = /** @type {const} */ ([
  { kind: "write", nth: 2, action: { hang: true } },
  { kind: "write", nth: 1, every: 2, action: { delayMs: 3 } },
]);

export const timedDriver = new URL("./timed-driver.mjs", import.meta.url).href;

export class TestDisk {
  /**
   * @param {string} directory @param {number} index
   * @param {{ name: string, length: number, lengthMax: number, decorated: boolean, mirrorOf: number | undefined, stripes: import("./stripes.mjs").Stripe[] }} plan
   */
  constructor(directory, index, plan) {
    this.index = index;
    this.plan = plan;
    this.name = plan.name;
    this.path = join(directory, `${plan.name}.img`);
    this.fd = openSync(this.path, "wx+");
    ftruncateSync(this.fd, plan.length);
    /** @type {import("../../packages/runtime/dist/index.js").Disk | undefined} */
    this.attached = undefined;
  }

  get mirror() {
    return this.plan.mirrorOf !== undefined;
  }

  /** @returns {import("../../packages/runtime/dist/index.js").Disk} */
  get disk() {
    if (this.attached === undefined) throw new Error(`stress: ${this.name} is not attached`);
    return this.attached;
  }

  get length() {
    return fstatSync(this.fd).size;
  }

  /** What `attach` is given. */
  get spec() {
    const file = { driver: timedDriver, file: { driver: "file", filename: this.path } };
    if (this.mirror) return { driver: "fault", file, rules: mirrorRules.map((rule) => ({ ...rule, armed: false })) };
    if (!this.plan.decorated) return file;
    return { driver: "fault", file, rules: sourceRules.map(({ rule }) => ({ ...rule, armed: false })) };
  }

  /** What the image holds, from outside of Heirloom. */
  image() {
    return readImage(this.fd, this.length);
  }

  /** Fills it before it is attached. @param {Uint8Array} data */
  fill(data) {
    writeSync(this.fd, data, 0, data.length, 0);
  }

  close() {
    closeSync(this.fd);
  }
}

/** @param {number} fd @param {number} length */
export function readImage(fd, length) {
  const image = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const got = readSync(fd, image, done, length - done, done);
    if (got === 0) throw new Error(`stress: an image of ${length} bytes ends at ${done}`);
    done += got;
  }
  return image;
}

/** @param {string} path */
export function readImageAt(path) {
  const fd = openSync(path, "r");
  try {
    return readImage(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}
