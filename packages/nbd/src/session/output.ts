/**
 * A connection's way out. Replies are put into the thread's block and sent together; what the socket does not take is
 * *pending*, and until it is gone nothing else is put anywhere: replies that come meanwhile wait in their order.
 */
import assert from "node:assert";
import { EAGAIN, type Errno, errnoText, sendBytes } from "@heirloom/block";
import { wireError } from "./errors.ts";
import { OUTPUT_BYTES } from "./limits.ts";
import type { OutputBlocks } from "./output-blocks.ts";
import * as replies from "./replies.ts";
import type { Answered } from "./replies.ts";

interface Pending {
  readonly bytes: Uint8Array;
  from: number;
  readonly to: number;
  /** All of it was sent, or the connection is gone. */
  readonly release: () => void;
}

export interface Framing {
  readonly structured: boolean;
  readonly extended: boolean;
}

export class Output {
  /** Nothing can be sent any more, for this reason. */
  broken: string | undefined;
  readonly #fd: number;
  readonly #framing: Framing;
  readonly #blocks: OutputBlocks;
  #pending: Pending | undefined;
  /** Replies that wait for `#pending`; none where that is undefined. */
  readonly #later: (() => void)[] = [];

  constructor(fd: number, framing: Framing, blocks: OutputBlocks) {
    this.#fd = fd;
    this.#framing = framing;
    this.#blocks = blocks;
  }

  /** The socket must take something before more can be put. */
  get isPending(): boolean {
    return this.#pending !== undefined;
  }
  get isBlocked(): boolean {
    return this.#pending !== undefined || this.broken !== undefined;
  }
  /** Where the next reply goes. */
  get view(): DataView {
    return this.#blocks.current.view;
  }
  get bytes(): Uint8Array {
    return this.#blocks.current.bytes;
  }
  get at(): number {
    return this.#blocks.used;
  }

  /** Whether there is room for so much more; sends what has gathered if not. */
  room(bytes: number): boolean {
    if (this.isBlocked) return false;
    if (this.#blocks.used + bytes <= OUTPUT_BYTES) return true;
    this.flush();
    return !this.isBlocked;
  }

  /** A reply was put, up to here. */
  put(end: number): void {
    this.#blocks.used = end;
    this.#blocks.replies++;
  }

  ok(to: Answered): void {
    const { view, at } = this;
    this.put(this.#framing.extended ? replies.putNone(view, at, to, true) : replies.putSimple(view, at, to, 0));
  }
  /** @param error of the wire */
  fail(to: Answered, error: number, text: string): void {
    const { view, at } = this;
    const { structured, extended } = this.#framing;
    this.put(
      structured ? replies.putError(view, at, to, extended, error, text) : replies.putSimple(view, at, to, error),
    );
  }
  failed(to: Answered, errno: Errno, text: string): void {
    this.fail(to, wireError(errno), text);
  }

  /** Sends what has gathered. */
  flush(): void {
    const blocks = this.#blocks;
    const { used, current } = blocks;
    if (used === 0) return;
    assert(this.#pending === undefined, "nothing is put while something is pending");
    if (this.broken !== undefined) {
      blocks.reset(); // nobody wants it
      return;
    }
    const sent = sendBytes(this.#fd, current.bytes.subarray(0, used));
    if (sent === used || (sent < 0 && sent !== -EAGAIN)) {
      blocks.reset();
      if (sent < 0) this.break(`the connection broke: ${errnoText(-sent)}`);
      return;
    }
    blocks.replace();
    const release = (): void => blocks.giveBack(current);
    this.#pending = { bytes: current.bytes, from: Math.max(sent, 0), to: used, release };
  }

  /** Sends bytes from where they are, behind what has gathered. Nothing is pending. */
  sendFrom(bytes: Uint8Array, from: number, to: number, release: () => void): void {
    this.flush();
    if (this.broken !== undefined) release();
    else if (this.#pending === undefined) {
      this.#pending = { bytes, from, to, release };
      this.#sendPending();
    } else this.#later.unshift(() => this.sendFrom(bytes, from, to, release));
  }

  /** Does it now, or when the socket has taken what is pending; and when the connection breaks, to give back what it holds. */
  whenFree(reply: () => void): void {
    if (this.#pending === undefined) reply();
    else this.#later.push(reply);
  }

  /** The socket has room. @returns whether more can be put now */
  writable(): boolean {
    this.#sendPending();
    while (!this.isBlocked) {
      const next = this.#later.shift();
      if (next === undefined) return true;
      next();
      this.flush(); // so that each finds the block empty
    }
    return false;
  }

  /** Nothing is sent any more. */
  break(reason: string): void {
    if (this.broken !== undefined) return;
    this.broken = reason;
    this.#pending?.release();
    this.#pending = undefined;
    for (const reply of this.#later.splice(0)) reply();
  }

  #sendPending(): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    const sent = sendBytes(this.#fd, pending.bytes.subarray(pending.from, pending.to));
    if (sent === -EAGAIN) return;
    if (sent < 0) {
      this.break(`the connection broke: ${errnoText(-sent)}`);
      return;
    }
    pending.from += sent;
    if (pending.from < pending.to) return;
    this.#pending = undefined;
    pending.release();
  }
}
