/**
 * A disk, from the side of a thread that is its guest: reads and flushes go straight to the node; everything that
 * changes the disk passes the gate, preserves what views need, marks the recorders, and then writes.
 *
 * Everything here is synchronous and answers an errno. Waiting (a throttle, a full spill, a missing arena) happens
 * outside of the gate: leave, wait, start again from the top.
 */
import assert from "node:assert";
import {
  type BlockNode,
  checkRequest,
  connectNode,
  type DirectFile,
  EAGAIN,
  EINVAL,
  ENOTSUP,
  type Errno,
  type NodeHandle,
  type RequestKind,
  type RequestLimits,
  type StatusExtent,
} from "@heirloom/block";
import type { RegionReference } from "./arena.ts";
import { threadId } from "node:worker_threads";
import { behindViews, isReady, markRecorders, prepareGuards, preserveForViews } from "./disk-layers.ts";
import { Gate } from "./gate.ts";
import { waitOutside } from "./gatekeeper.ts";
import * as layout from "./gate-layout.ts";
import {
  countedDiscard,
  countedFlush,
  type CountedKind,
  countedRead,
  countedWrite,
  IoCounters,
} from "./io-counters.ts";
import { findUnsafe, makeSafe, type Unsafe } from "./spill-sync.ts";
import { decodeTable, tableArenaCount, type TableLayer } from "./table.ts";
import type { ThreadContext } from "./thread-context.ts";
import type { View } from "./view.ts";
import { brokenSpillFull, brokenUnreadable } from "./view-layout.ts";
import type { GuardContext } from "./write-guard.ts";

/** No operation holds the gate longer than a write of this many bytes does. */
export const pieceBytesMax: number = 1024 * 1024;

/** A disk as it is posted to threads. */
export interface DiskAddress {
  readonly layer: number;
  readonly node: NodeHandle;
  /** The lowest node of the stack, when that is another. */
  readonly lowest: NodeHandle | undefined;
  /** Where the node's window begins in the lowest node. */
  readonly base: number;
  readonly gate: RegionReference;
  /** io-counters.ts */
  readonly counters: RegionReference;
}

/** ETIMEDOUT, for a guest's write that was to wait for its view. */
const timedOut = 110;
/** EBADF, for a disk that was closed on this thread. */
const badDescriptor = 9;

/** A writer that makes room for marks waits so long for those inside the gate; then it begins anew. */
const outsideMs = 200;

/** See `DiskIo.whole`. */
export const furtherPart = -1;

const sleepWord = new Int32Array(new SharedArrayBuffer(4));
function sleep(milliseconds: number): void {
  Atomics.wait(sleepWord, 0, 0, milliseconds);
}

export class DiskIo implements BlockNode {
  readonly #node: BlockNode;
  readonly #lowest: BlockNode;
  readonly #base: number;
  readonly #layer: number;
  /** Bytes, as the table says: what recorders and views cover. The node itself may be longer for a moment. */
  #length = 0;
  readonly #gate: Gate;
  readonly #context: ThreadContext;
  #generation = 0;
  #layers: readonly TableLayer[] = [];
  #hasViews = false;
  /** A view of them makes guests wait for its target. */
  #synchronous = false;
  /** A view of them has its spill synced before a guest overwrites. */
  #syncs = false;
  #guarded = false;
  #guardsMissing = false;
  #arenasWanted = 0;
  readonly #limits: RequestLimits;
  /**
   * Whether verbs wait where they must (a throttle, a full spill, an arena). A thread that serves several clients sets it to
   * false: then such a request answers EAGAIN, may have been done in part, and is done again by a thread that can wait.
   */
  patient = true;
  /** After EAGAIN: throttles have let the request pass. Set before it is done again, so that it is charged once. */
  admitted = false;
  /** For how long the next request has waited already before it came here, milliseconds. */
  waitedMs = 0;
  /**
   * Bytes of the request that the next call begins, where it does a part of it alone; `furtherPart` for the parts after that.
   * A request counts once, and throttles are asked once, for all of it. 0: the call is all of its request.
   */
  whole = 0;
  /** When the request at hand has waited long enough for spills, over all its pieces; 0 before it had to wait. */
  #deadline = 0;
  #closed = false;
  readonly #counters: IoCounters;

  /** @param participant a live number of this thread. The drivers of the nodes are loaded. */
  constructor(address: DiskAddress, context: ThreadContext, participant: number) {
    this.#context = context;
    this.#node = connectNode(address.node);
    this.#lowest = address.lowest === undefined ? this.#node : connectNode(address.lowest);
    this.#base = address.base;
    this.#layer = address.layer;
    const node = this.#node;
    this.#limits = {
      get length(): number {
        return node.length();
      },
      alignment: address.node.alignment,
      readOnly: address.node.readOnly,
    };
    this.#gate = new Gate(context.arenas.words(address.gate, layout.gateBytes / 4), participant);
    this.#gate.markServed();
    const { arena, byteOffset } = address.counters;
    this.#counters = new IoCounters(context.arenas.buffer(arena), byteOffset, participant);
  }

  /** Not for kernel copies: bytes that reach the file past the gate would not be tracked. */
  readonly direct = undefined;

  /** The node under it answers at once, or says that it would not (`readNow`): no verb hangs but in its own device. */
  get prompt(): boolean {
    return this.#node.readNow !== undefined;
  }

  /** Where the disk is a range of a plain file: for reads, which pass no gate. */
  get readsFrom(): DirectFile | undefined {
    return this.#node.direct;
  }

  length(): number {
    return this.#node.length();
  }

  /** This thread is no guest any more: every request is refused from now on. */
  close(): void {
    this.#closed = true;
  }

  /** Errno of a request that no driver should see; 0 if it may go on. */
  check(kind: RequestKind, offset: number, length: number): Errno {
    if (this.#closed) return badDescriptor;
    this.#deadline = 0;
    return checkRequest(this.#limits, kind, offset, length);
  }

  /** `check`, of a request that counts. */
  #checked(kind: "read" | "write" | "discard" | "write-zeroes", offset: number, length: number): Errno {
    const errno = this.check(kind, offset, length);
    if (errno !== 0) this.refused(kind === "read" ? countedRead : kind === "discard" ? countedDiscard : countedWrite);
    return errno;
  }

  /** What is done again by somebody who can wait counts then. A closed disk's memory may be somebody else's. */
  #counted(kind: CountedKind, offset: number, length: number, begunMs: number, errno: Errno): Errno {
    if (errno === EAGAIN || this.#closed) return errno;
    if (this.whole === 0) this.#counters.ended(kind, offset, length, begunMs - this.waitedMs, errno);
    else if (kind === countedWrite && errno === 0) this.#counters.wrote(offset + length);
    this.waitedMs = 0;
    return errno;
  }

  /** All parts of a request are done. @param begunMs as `performance.now()` had it when it came */
  partsDone(kind: CountedKind, offset: number, length: number, begunMs: number, errno: Errno): void {
    if (!this.#closed) this.#counters.ended(kind, offset, length, begunMs, errno);
  }

  read(buffer: Uint8Array, offset: number): Errno {
    const begun = performance.now();
    const refused = this.#checked("read", offset, buffer.length);
    if (refused !== 0 || buffer.length === 0) return refused;
    if (!this.#waitForAdmission("read", buffer.length)) return EAGAIN;
    this.admitted = false;
    return this.#counted(countedRead, offset, buffer.length, begun, this.#node.read(buffer, offset));
  }

  /** `read` of what is at hand: EAGAIN where it would wait, for a device or for admission. */
  readNow(buffer: Uint8Array, offset: number): Errno {
    const begun = performance.now();
    const refused = this.#checked("read", offset, buffer.length);
    if (refused !== 0 || buffer.length === 0) return refused;
    const { readNow } = this.#node;
    if (readNow === undefined) return EAGAIN;
    if (this.#admit("read", buffer.length) > 0) return EAGAIN;
    const errno = readNow.call(this.#node, buffer, offset);
    this.admitted = errno === EAGAIN;
    return this.#counted(countedRead, offset, buffer.length, begun, errno);
  }

  /** A read that somebody else did, of the file that `readsFrom` names. @param begunMs as `performance.now()` had it */
  readElsewhere(offset: number, length: number, begunMs: number, errno: Errno): void {
    this.#counted(countedRead, offset, length, begunMs, errno);
  }

  /** A request that was refused before it came here. */
  refused(kind: CountedKind): void {
    if (!this.#closed) this.#counters.refused(kind);
  }

  write(buffer: Uint8Array, offset: number): Errno {
    const begun = performance.now();
    const refused = this.#checked("write", offset, buffer.length);
    if (refused !== 0 || buffer.length === 0) return refused;
    return this.#counted(countedWrite, offset, buffer.length, begun, this.#write(buffer, offset));
  }

  #write(buffer: Uint8Array, offset: number): Errno {
    let errno = 0;
    if (buffer.length <= pieceBytesMax) return this.#writePiece(buffer, offset);
    for (let done = 0; done < buffer.length && errno === 0; done += pieceBytesMax) {
      errno = this.#writePiece(buffer.subarray(done, done + pieceBytesMax), offset + done);
    }
    return errno;
  }

  discard(offset: number, length: number): Errno {
    const begun = performance.now();
    const refused = this.#checked("discard", offset, length);
    if (refused !== 0) return refused;
    return this.#counted(countedDiscard, offset, length, begun, this.#discard(offset, length));
  }

  #discard(offset: number, length: number): Errno {
    let errno = 0;
    for (let done = 0; done < length && errno === 0; done += pieceBytesMax) {
      const piece = Math.min(pieceBytesMax, length - done);
      errno = this.#enter("discard", layout.operationDiscard, offset + done, piece);
      if (errno !== 0) break;
      try {
        errno = this.#node.discard(offset + done, piece);
      } finally {
        this.#gate.leave();
      }
    }
    return errno;
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    return this.#zero(offset, length, unmap, false);
  }

  /** ENOTSUP where the node would have to write zeroes, or cannot promise that it would not. */
  writeZeroesFast(offset: number, length: number, unmap: boolean): Errno {
    return this.#node.writeZeroesFast === undefined ? ENOTSUP : this.#zero(offset, length, unmap, true);
  }

  #zero(offset: number, length: number, unmap: boolean, fast: boolean): Errno {
    const begun = performance.now();
    const refused = this.#checked("write-zeroes", offset, length);
    if (refused !== 0) return refused;
    return this.#counted(countedWrite, offset, length, begun, this.#zeroPieces(offset, length, unmap, fast));
  }

  #zeroPieces(offset: number, length: number, unmap: boolean, fast: boolean): Errno {
    const node = this.#node;
    let errno = 0;
    for (let done = 0; done < length && errno === 0; done += pieceBytesMax) {
      const piece = Math.min(pieceBytesMax, length - done);
      errno = this.#enter("write-zeroes", layout.operationWriteZeroes, offset + done, piece);
      if (errno !== 0) break;
      try {
        errno =
          fast && node.writeZeroesFast !== undefined
            ? node.writeZeroesFast(offset + done, piece, unmap)
            : node.writeZeroes(offset + done, piece, unmap);
      } finally {
        this.#gate.leave();
      }
    }
    return errno;
  }

  flush(): Errno {
    if (this.#closed) return badDescriptor;
    const begun = performance.now();
    return this.#counted(countedFlush, 0, 0, begun, this.#node.flush());
  }

  status(offset: number, length: number, extent: StatusExtent): Errno {
    return this.check("status", offset, length) || this.#node.status(offset, length, extent);
  }

  /** Bytes from `offset` on, at most `length`, that are known to read as zeroes: 0 where that is not known cheaply. */
  zeroesFrom(offset: number, length: number): number {
    return this.check("status", offset, length) === 0 ? (this.#node.zeroesFrom?.(offset, length) ?? 0) : 0;
  }

  /** The length of a disk with bitmaps changes by a transition of its engine, not from a thread. */
  resize(): Errno {
    assert.fail("a disk is resized through its engine");
  }

  admit(): number {
    return 0; // waited for inside each verb
  }

  #writePiece(buffer: Uint8Array, offset: number): Errno {
    const refused = this.#enter("write", layout.operationWrite, offset, buffer.length);
    if (refused !== 0) return refused;
    try {
      return this.#node.write(buffer, offset);
    } finally {
      this.#gate.leave(); // a driver module that throws must not keep the gate
    }
  }

  /**
   * Goes in and does everything that comes before the device: when it returns 0 the caller is inside, all views are safe
   * and all recorders marked.
   */
  #enter(kind: RequestKind, operation: number, offset: number, length: number): Errno {
    if (!this.#waitForAdmission(kind, length)) return EAGAIN;
    let firstLook = true;
    for (;;) {
      this.#gate.enter(operation);
      if (!this.#refresh()) {
        this.#gate.leave();
        if (this.#guardsMissing) {
          this.#context.loadGuards(); // once a thread
          this.#guardsMissing = false;
          continue;
        }
        if (!this.patient) return EAGAIN;
        this.#context.arenas.catchUp(this.#arenasWanted);
        continue;
      }
      // The disk may be about to grow, or have shrunk since the request was checked.
      if (offset + length > this.#length) {
        this.#gate.leave();
        this.admitted = false;
        return EINVAL;
      }
      if (this.#guarded && !isReady(this.#layers, this.#base + offset, length)) {
        const unready = this.#prepare(this.#base + offset, length);
        if (unready !== 0) return unready;
        continue; // from the top: what was prepared may have been for a table that is no longer in force
      }
      const seen = this.#hasViews ? this.#gate.progressSeen() : 0; // before the look for room
      const held = this.#preserve(this.#base + offset, length, firstLook);
      const unsafe = held === 0 && this.#syncs ? findUnsafe(this.#layers, this.#base + offset, length) : undefined;
      if (unsafe !== undefined) {
        if (!this.#makeSafe(unsafe)) return EAGAIN;
        continue;
      }
      if (held === 0) {
        markRecorders(this.#layers, this.#base + offset, length);
        this.#gate.count(length);
        this.admitted = false;
        return 0;
      }
      if (typeof held === "number") {
        this.#gate.leave();
        this.admitted = false;
        return held;
      }
      if (!this.patient) {
        this.#gate.leave();
        return EAGAIN;
      }
      firstLook = false;
      const now = performance.now();
      if (this.#deadline === 0) this.#deadline = now + held.guestDelayMaxMs - this.waitedMs;
      const late = now >= this.#deadline;
      const refuses = late && held.breakGuestWrite;
      // Still inside, before the device is written; then from the top.
      if (late && !refuses) held.break(brokenSpillFull);
      this.#gate.leave();
      // Outside of the gate nothing of the view may be touched: it may be over, and its memory somebody else's.
      if (refuses) {
        this.admitted = false;
        return timedOut;
      }
      if (!late) this.#gate.park(seen, this.#deadline - now);
    }
  }

  /** Leaves the gate, and does what the guards miss. @returns 0, or EAGAIN */
  #prepare(offset: number, length: number): Errno {
    this.#gate.leaveAside();
    try {
      return prepareGuards(this.#layers, offset, length, this.patient);
    } finally {
      this.#gate.comeBack();
    }
  }

  /** Leaves the gate, and has what the request overwrites synced. False if it would have to wait and must not. */
  #makeSafe(unsafe: Unsafe): boolean {
    if (!this.patient) {
      this.#gate.leave();
      return false;
    }
    this.#gate.leaveAside();
    try {
      makeSafe(unsafe, threadId + 1);
    } finally {
      this.#gate.comeBack();
    }
    return true;
  }

  get #guardContext(): GuardContext {
    return {
      arenas: this.#context.arenas,
      holder: threadId + 1,
      waitOutside: () => waitOutside(this.#gate.words, this.#context.registry.participantMax, outsideMs),
      syncDisk: () => this.#node.flush(),
    };
  }

  /** @returns 0, the view that the request waits for, or the errno that it fails with */
  #preserve(offset: number, length: number, firstLook: boolean): View | Errno {
    if (!this.#hasViews) return 0;
    try {
      const held = preserveForViews(this.#layers, this.#lowest, offset, length);
      if (!this.#synchronous || typeof held === "number") {
        return held === 0 && this.#synchronous ? behindViews(this.#layers, offset, length, firstLook) : held;
      }
      // No room, and the target takes nothing: who waits for it would wait in vain.
      return held.synchronous && !firstLook && held.targetErrno() !== 0 ? held.targetErrno() : held;
    } catch (error) {
      // As above; and the claims that it held are given up by breaking the views.
      for (const layer of this.#layers) for (const view of layer.views) view.break(brokenUnreadable);
      this.#gate.leave();
      throw error;
    }
  }

  /** Milliseconds to wait, of throttles that are asked for a whole request. */
  #admit(kind: RequestKind, length: number): number {
    return this.whole === furtherPart ? 0 : this.#node.admit(kind, this.whole === 0 ? length : this.whole);
  }

  /** False if it would have to wait and must not. */
  #waitForAdmission(kind: RequestKind, length: number): boolean {
    while (!this.admitted) {
      const wait = this.#admit(kind, length);
      if (wait <= 0) break;
      if (!this.patient) return false;
      sleep(wait);
    }
    this.admitted = true;
    return true;
  }

  /** Inside the gate: takes the table in force. False if it needs arenas or guards that this thread does not have yet. */
  #refresh(): boolean {
    const generation = this.#gate.generation();
    if (generation === this.#generation) return true;
    const { words } = this.#gate;
    const { arenas } = this.#context;
    const arena = Atomics.load(words, layout.tableArenaWord);
    this.#arenasWanted = Math.max(this.#arenasWanted, arena + 1);
    if (!arenas.knows(this.#arenasWanted)) return false;
    const offset = Atomics.load(words, layout.tableOffsetWord) * 8;
    const table = new Float64Array(arenas.buffer(arena), offset, Atomics.load(words, layout.tableLengthWord));
    this.#arenasWanted = Math.max(this.#arenasWanted, tableArenaCount(table));
    if (!arenas.knows(this.#arenasWanted)) return false;
    const { guards } = this.#context;
    let missing = false;
    const layers = decodeTable(table, arenas, (row) => {
      if (guards !== undefined) return guards.makeGuard(row, this.#guardContext);
      missing = true;
      return { ready: () => false, prepare: () => EAGAIN };
    });
    if (missing) {
      this.#guardsMissing = true;
      return false;
    }
    this.#layers = layers;
    this.#guarded = this.#layers.some((layer) => layer.guard !== undefined);
    this.#hasViews = this.#layers.some((layer) => layer.views.length > 0);
    this.#synchronous = this.#layers.some((layer) => layer.views.some((view) => view.synchronous));
    this.#syncs = this.#layers.some((layer) => layer.views.some((view) => view.safe !== undefined));
    this.#length = this.#layers.find((layer) => layer.layer === this.#layer)?.length ?? 0;
    this.#generation = generation;
    return true;
  }
}
