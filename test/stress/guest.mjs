/**
 * One guest: chooses its requests, keeps its log, knows what its private stripes must hold, and judges what it reads. The
 * verbs themselves are the caller's: synchronous on a thread (writer.mjs), promises on the main thread (main-guest.mjs).
 */
import * as board from "./board.mjs";
import { RunDelay } from "./run-delay.mjs";
import { fillTags, SharedSectors, tagOf } from "./sectors.mjs";
import { sharedOwner } from "./stripes.mjs";
import { deviceMs } from "./timed-driver.mjs";

const { field } = board;
const requestBytesMax = 1024 * 1024;
const pool = new Uint8Array(2 * requestBytesMax);

/**
 * @typedef {{ kind: "write" | "read" | "discard" | "zero", disk: number, offset: number, length: number, shared: boolean, unmap: boolean }} Request
 * @typedef {{ entry: number, begin: number, request: number, data: Uint8Array, seen: Int32Array, startedAt: number, observed: number, flags: number, waitedMs: number, deviceMs: number }} Running
 */

export class Guest {
  /**
   * @param {board.Board} shared @param {number} writer @param {ReadonlyArray<readonly import("./stripes.mjs").Stripe[]>} stripes of each disk
   * @param {import("./random.mjs").Random} random @param {(text: string, details: object) => void} fail
   * @param {boolean} judgesDelay false on the main thread, whose own work is in every delay that it sees
   */
  constructor(shared, writer, stripes, random, fail, judgesDelay) {
    this.writer = writer;
    this.random = random;
    this.fail = fail;
    this.judgesDelay = judgesDelay;
    this.runDelay = new RunDelay();
    this.control = new Int32Array(shared.control);
    this.log = new Int32Array(shared.writers[writer].log);
    this.expected = shared.disks.map((disk) => new Uint8Array(disk.expected));
    this.sectors = shared.disks.map((disk) => new SharedSectors(disk, shared.writers));
    this.own = stripes.map((all) => all.filter((stripe) => stripe.owner === writer));
    this.common = stripes.map((all) => all.filter((stripe) => stripe.owner === sharedOwner));
    const words = new Uint32Array(pool.buffer);
    if (words[0] === 0) for (let at = 0; at < words.length; at++) words[at] = random.next();
  }

  /** @param {readonly number[]} disks that are open @returns {Request | undefined} */
  choose(disks) {
    const { random } = this;
    const disk = random.pick(disks);
    const shared = random.chance(30);
    const list = (shared ? this.common : this.own)[disk];
    const length = Atomics.load(this.control, board.lengthFlag(disk));
    if (list.length === 0) return undefined;
    const stripe = random.pick(list);
    const room = Math.min(stripe.length, length - stripe.offset, requestBytesMax);
    const unit = shared ? board.sectorBytes : random.pick([1, 512, 4096]);
    if (room < unit) return undefined;
    const size = Math.floor(random.spread(Math.min(unit * 1, room), room) / unit) * unit || unit;
    const offset =
      stripe.offset + Math.floor(random.int(0, Math.min(stripe.length, length - stripe.offset) - size) / unit) * unit;
    const kind = random.weighted(
      /** @type {const} */ ([
        [64, "write"],
        [22, "read"],
        [6, "discard"],
        [8, "zero"],
      ]),
    );
    return { kind, disk, offset, length: size, shared, unmap: random.chance(50) };
  }

  /** @param {Request} request @returns {Running} */
  begin(request) {
    const { kind, disk, offset, length, shared } = request;
    const number = this.log[0];
    const entry = 1 + (number % board.logEntries) * board.entryWords;
    let begin = 0;
    if (kind !== "read") {
      begin = board.tick(this.control);
      this.log[entry + field.what] = board.operations.indexOf(kind) | (disk << 8);
      this.log[entry + field.offset] = offset;
      this.log[entry + field.length] = length;
      this.log[entry + field.errno] = 0;
      this.log[entry + field.begin] = begin;
      Atomics.store(this.log, entry + field.end, 0);
      Atomics.store(this.log, 0, number + 1);
    }
    const seen = kind === "read" && shared ? this.sectors[disk].before(offset, length) : new Int32Array(0);
    if (shared && (kind === "discard" || kind === "zero")) this.sectors[disk].zeroBegins(offset, length);
    return {
      entry,
      begin,
      request: number,
      data: this.#dataFor(request, number),
      seen,
      flags: Atomics.load(this.control, board.expectFlag(disk)),
      observed: Atomics.load(this.control, board.observedWord),
      waitedMs: this.judgesDelay && kind !== "read" ? this.runDelay.read() : 0,
      deviceMs: deviceMs(),
      startedAt: board.clock(),
    };
  }

  /** @param {Request} request @param {Running} running @param {number} errno */
  end(request, running, errno) {
    const { kind, disk, offset, length, shared } = request;
    const milliseconds =
      board.clock() -
      running.startedAt -
      ((Atomics.load(this.control, board.observedWord) - running.observed) | 0) / 1000;
    const flags =
      running.flags | Atomics.load(this.control, board.expectFlag(disk)) | (this.judgesDelay ? 0 : board.expectDelays);
    if (errno !== 0) this.#judgeErrno(request, errno, flags);
    if (kind === "read") return;
    const end = board.tick(this.control);
    if (shared) {
      if (kind !== "write") this.sectors[disk].zeroEnds(offset, length, end);
      // A discard may leave what was there.
      if (errno === 0 && kind !== "discard") this.sectors[disk].replaced(offset, length, running.begin);
    } else if (errno === 0 && kind === "write") this.expected[disk].set(running.data, offset);
    else if (errno === 0) this.expected[disk].fill(0, offset, offset + length);
    this.log[running.entry + field.errno] = errno;
    this.log[running.entry + field.microseconds] =
      (flags & board.expectDelays) === 0 ? Math.round(milliseconds * 1000) : -1;
    Atomics.store(this.log, running.entry + field.end, end);
    this.#judgeDelay(request, milliseconds, flags, running);
  }

  /** What a read returned. @param {Request} request @param {Running} running @param {(() => Uint8Array) | undefined} again undefined: torn bytes prove nothing @returns {boolean} */
  judgeRead(request, running, again) {
    const { disk, offset, length, shared } = request;
    if (!shared) {
      const expected = this.expected[disk].subarray(offset, offset + length);
      const at = firstDifference(running.data, expected);
      if (at === -1) return true;
      this.fail("I3: a read of a private stripe is not what was written last", {
        ...request,
        at: offset + at,
        read: running.data[at],
        written: expected[at],
      });
      return false;
    }
    let wrong = this.sectors[disk].check(running.data, offset, running.seen);
    // A read beside a running write may be torn inside a unit; one that stays so is wrong.
    if (wrong?.torn === true && again === undefined) return true;
    for (let tries = 0; wrong?.torn === true && again !== undefined && tries < 5; tries++) {
      const seen = this.sectors[disk].before(offset, length);
      wrong = this.sectors[disk].check(again(), offset, seen);
    }
    if (wrong !== undefined)
      this.fail("I3: a read of a shared sector is neither the last write nor a running one", {
        ...request,
        at: wrong.offset,
        why: wrong.text,
      });
    return wrong === undefined;
  }

  /** @param {Request} request @param {number} number */
  #dataFor(request, number) {
    const { kind, offset, length, shared } = request;
    if (kind !== "write") return kind === "read" ? new Uint8Array(length) : pool.subarray(0, 0);
    if (!shared)
      return this.random.chance(10)
        ? new Uint8Array(length)
        : pool.slice((number * 13) % requestBytesMax).subarray(0, length);
    const data = new Uint8Array(length);
    fillTags(data, offset, tagOf(this.writer, number));
    return data;
  }

  /** @param {Request} request @param {number} errno @param {number} flags */
  #judgeErrno(request, errno, flags) {
    const allowed = errno === 110 ? board.expectTimeouts : board.expectErrors;
    if ((flags & allowed) === 0)
      this.fail("a guest's request failed though nothing was planted", { ...request, errno });
  }

  /** I7. @param {Request} request @param {number} milliseconds @param {number} flags @param {Running} running */
  #judgeDelay(request, milliseconds, flags, running) {
    if ((flags & board.expectDelays) !== 0) return;
    const guestDelayMax = Atomics.load(this.control, board.delayFlag(request.disk));
    const bound = guestDelayMax + gateTryMs + Atomics.load(this.control, board.slackWord);
    if (milliseconds <= bound) return;
    // What the machine did: the device took so long; this thread was not let run, and neither were those that it had to wait for.
    const device = deviceMs() - running.deviceMs;
    const kept = this.runDelay.read() - running.waitedMs;
    const noise = board.noise(this.control, milliseconds);
    if (milliseconds - device <= bound + 4 * kept + 4 * noise) return;
    this.fail("I7: a guest's write was delayed for longer than promised", {
      ...request,
      milliseconds,
      guestDelayMax,
      bound,
      device,
      kept,
      noise,
    });
  }
}

/** A transition's longest try. */
const gateTryMs = 50;
/** @param {Uint8Array} a @param {Uint8Array} b */
export function firstDifference(a, b) {
  if (a.length === b.length && Buffer.from(a.buffer, a.byteOffset, a.length).equals(b)) return -1;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return at;
  return a.length;
}
