/**
 * Reads of files that a thread does not wait for: io_uring, where the kernel has it and lets us. A completion rings a
 * doorbell that the thread waits for among its sockets.
 *
 * The rings are memory that the kernel shares with us. Submission: an entry is filled, its number is put into the array, then
 * the tail moves (a store that the kernel's load pairs with). Completion: entries up to the tail (loaded before they are
 * read) are ours until the head moves. One thread owns both ends, so nothing else is needed.
 */
import { ENOSYS } from "./errno.ts";
import { closeFile, withoutNativeCalls } from "./libc.ts";
import { loadNativeRingCalls } from "./read-ring-native.ts";

/** Raw calls: a result of 0 or more, or a negative errno. */
export interface RingCalls {
  setup(entries: number, parameters: Uint32Array): number;
  enter(ring: number, count: number): number;
  register(ring: number, operation: number, values: Int32Array, count: number): number;
  map(ring: number, length: number, offset: number): ArrayBuffer | number;
  addressOf(view: Uint8Array): number;
}

const OFFSET_RINGS = 0;
const OFFSET_ENTRIES = 0x10000000;
const REGISTER_EVENTFD = 4;
const FEATURE_SINGLE_MMAP = 1;
const OPERATION_READ = 22;

/** struct io_uring_params in words: sq_entries, cq_entries, ..., features at 5; offsets of the rings from 10 and 20 on. */
const PARAMETER_WORDS = 30;
const SQ_ENTRIES = 0;
const CQ_ENTRIES = 1;
const FEATURES = 5;
const SQ_TAIL = 11;
const SQ_MASK = 12;
const SQ_ARRAY = 16;
const CQ_HEAD = 20;
const CQ_TAIL = 21;
const CQ_MASK = 22;
const CQ_ENTRY = 25;

/** An entry of the submission ring is 64 bytes: opcode u8 ..., fd i32, offset u64, address u64, length u32, ..., tag u64. */
const ENTRY_WORDS = 16;
/** One of the completion ring 16: tag u64, result i32, flags u32. */
const DONE_WORDS = 4;

let selected: RingCalls | undefined;

function ringCalls(): RingCalls {
  return (selected ??= loadNativeRingCalls());
}

/** Loads the calls now and not with the first ring; `loadSystemCalls` says why. */
export function loadRingCalls(): void {
  if (!withoutNativeCalls()) ringCalls();
}

/**
 * @example
 * const ring = ReadRing.open(256, doorbell); // or a negative errno: do it another way
 * if (typeof ring !== "number" && ring.read(fd, buffer, 4096, 7)) ring.submit();
 * // when the doorbell has rung
 * ring.take((tag, result) => console.log(tag, result)); // 7, bytes read or a negative errno
 */
export class ReadRing {
  readonly #calls: RingCalls;
  readonly #fd: number;
  readonly #rings: Int32Array;
  readonly #entries: Uint32Array;
  readonly #at: Uint32Array;
  readonly #capacity: number;
  #tail: number;
  #unsubmitted = 0;
  #inFlight = 0;
  /** Where each buffer's memory begins. */
  readonly #addresses = new WeakMap<ArrayBufferLike, number>();

  private constructor(calls: RingCalls, fd: number, parameters: Uint32Array, rings: ArrayBuffer, entries: ArrayBuffer) {
    this.#calls = calls;
    this.#fd = fd;
    this.#at = parameters.map((offset) => offset / 4);
    this.#capacity = parameters[SQ_ENTRIES];
    this.#rings = new Int32Array(rings);
    this.#entries = new Uint32Array(entries);
    this.#tail = this.#rings[this.#at[SQ_TAIL]];
  }

  /** @param entries reads in flight at most, a power of two @param doorbell rings for completions; a negative errno where there is no io_uring */
  static open(entries: number, doorbell: number): ReadRing | number {
    if (withoutNativeCalls()) return -ENOSYS;
    const calls = ringCalls();
    const parameters = new Uint32Array(PARAMETER_WORDS);
    const fd = calls.setup(entries, parameters);
    if (fd < 0) return fd;
    const ring = ReadRing.#map(calls, fd, parameters, doorbell);
    if (typeof ring === "number") closeFile(fd);
    return ring;
  }

  static #map(calls: RingCalls, fd: number, parameters: Uint32Array, doorbell: number): ReadRing | number {
    if ((parameters[FEATURES] & FEATURE_SINGLE_MMAP) === 0) return -ENOSYS; // before Linux 5.4
    const ofArray = parameters[SQ_ARRAY] + parameters[SQ_ENTRIES] * 4;
    const ofDone = parameters[CQ_ENTRY] + parameters[CQ_ENTRIES] * DONE_WORDS * 4;
    const rings = calls.map(fd, Math.max(ofArray, ofDone), OFFSET_RINGS);
    if (typeof rings === "number") return rings;
    const entries = calls.map(fd, parameters[SQ_ENTRIES] * ENTRY_WORDS * 4, OFFSET_ENTRIES);
    if (typeof entries === "number") return entries;
    const registered = calls.register(fd, REGISTER_EVENTFD, Int32Array.of(doorbell), 1);
    return registered < 0 ? registered : new ReadRing(calls, fd, parameters, rings, entries);
  }

  /** Its descriptor, for `closeFile`. */
  get fd(): number {
    return this.#fd;
  }
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Queues a read of a file; `submit` sends what is queued. The buffer's memory must stay until its completion was taken.
   * @param tag of the caller's, up to 2^32 - 1 @returns false where the ring is full
   */
  read(fd: number, buffer: Uint8Array, offset: number, tag: number): boolean {
    if (this.#inFlight === this.#capacity) return false;
    const index = this.#tail & this.#rings[this.#at[SQ_MASK]];
    const entry = index * ENTRY_WORDS;
    const words = this.#entries;
    words.fill(0, entry, entry + ENTRY_WORDS);
    words[entry] = OPERATION_READ;
    words[entry + 1] = fd;
    putNumber(words, entry + 2, offset);
    putNumber(words, entry + 4, this.#addressOf(buffer));
    words[entry + 6] = buffer.length;
    words[entry + 8] = tag;
    this.#rings[this.#at[SQ_ARRAY] + index] = index;
    this.#tail = (this.#tail + 1) | 0;
    Atomics.store(this.#rings, this.#at[SQ_TAIL], this.#tail);
    this.#unsubmitted++;
    this.#inFlight++;
    return true;
  }

  /** Hands what is queued to the kernel; what it does not take now (it is short of memory) it gets with the next call. */
  submit(): void {
    if (this.#unsubmitted === 0) return;
    const taken = this.#calls.enter(this.#fd, this.#unsubmitted);
    if (taken > 0) this.#unsubmitted -= taken;
  }

  /** Something is queued that the kernel did not take. */
  get isBehind(): boolean {
    return this.#unsubmitted > 0;
  }

  /** Takes the completions that are there. @param done gets the tag, and bytes read or a negative errno */
  take(done: (tag: number, result: number) => void): void {
    let head = this.#rings[this.#at[CQ_HEAD]];
    const tail = Atomics.load(this.#rings, this.#at[CQ_TAIL]);
    const mask = this.#rings[this.#at[CQ_MASK]];
    while (head !== tail) {
      const entry = this.#at[CQ_ENTRY] + (head & mask) * DONE_WORDS;
      const tag = this.#rings[entry] >>> 0;
      const result = this.#rings[entry + 2];
      head = (head + 1) | 0;
      Atomics.store(this.#rings, this.#at[CQ_HEAD], head);
      this.#inFlight--;
      done(tag, result);
    }
  }

  #addressOf({ buffer, byteOffset, length }: Uint8Array): number {
    let address = this.#addresses.get(buffer);
    if (address === undefined) {
      address = this.#calls.addressOf(new Uint8Array(buffer, byteOffset, length)) - byteOffset;
      this.#addresses.set(buffer, address);
    }
    return address + byteOffset;
  }
}

function putNumber(words: Uint32Array, at: number, value: number): void {
  words[at] = value >>> 0;
  words[at + 1] = Math.floor(value / 2 ** 32);
}
