/**
 * A connection's way in. Bytes are received into the thread's buffer and consumed there; what is not a whole request, or
 * cannot be served now, is *carried*: a little is copied to the front of the next input, much of it stays where it is and the
 * rest of it is received behind it.
 */
import { EAGAIN, receiveBytes } from "@heirloom/block";
import { INPUT_BYTES } from "./limits.ts";

/** Serves what it can of a stretch. @returns where the first byte is that was not consumed */
export type Consume = (bytes: Uint8Array, view: DataView, from: number, to: number) => number;

/** Up to so many bytes are copied rather than received behind. */
const SMALL = 4096;

/** What the connections of a thread share. */
export class InputBuffers {
  readonly bytes: Uint8Array = new Uint8Array(INPUT_BYTES);
  readonly view: DataView = new DataView(this.bytes.buffer);
  readonly #free: Uint8Array[] = [];

  take(length: number): Uint8Array {
    if (length > INPUT_BYTES) return new Uint8Array(length); // what came behind a handshake
    return length <= SMALL ? new Uint8Array(SMALL) : (this.#free.pop() ?? new Uint8Array(INPUT_BYTES));
  }
  giveBack(carry: Uint8Array): void {
    if (carry.length === INPUT_BYTES) this.#free.push(carry);
  }
}

export class Input {
  readonly #fd: number;
  readonly #buffers: InputBuffers;
  readonly #consume: Consume;
  #carry: Uint8Array | undefined;
  #from = 0;
  #to = 0;
  /** Nothing is kept any more. */
  #closed = false;

  constructor(fd: number, buffers: InputBuffers, consume: Consume) {
    this.#fd = fd;
    this.#buffers = buffers;
    this.#consume = consume;
  }

  get carried(): number {
    return this.#to - this.#from;
  }

  /** Keeps what came otherwise. */
  prepend(bytes: Uint8Array): void {
    this.#keep(bytes, 0, bytes.length);
  }

  /** Consumes what is carried; with nothing carried, goes on with what was begun. */
  resume(): void {
    if (this.#carry === undefined || this.carried === 0) {
      this.#consume(this.#buffers.bytes, this.#buffers.view, 0, 0);
      return;
    }
    const carry = this.#carry;
    const to = this.#to;
    const view = new DataView(carry.buffer, carry.byteOffset, carry.length);
    this.#keep(carry, this.#consume(carry, view, this.#from, to), to);
  }

  /**
   * Receives once, and consumes.
   * @returns 1 if the socket may have more, 0 if not, or a negative errno; undefined where the peer has ended
   */
  receive(): number | undefined {
    const { carried } = this;
    let { bytes, view } = this.#buffers;
    const carry = this.#carry;
    if (carry !== undefined && carried > 0) {
      if (carried > SMALL) {
        if (this.#from > 0) carry.copyWithin(0, this.#from, this.#to);
        this.#from = 0;
        this.#to = carried;
        bytes = carry;
        view = new DataView(carry.buffer, carry.byteOffset, carry.length);
      } else bytes.set(carry.subarray(this.#from, this.#to));
    }
    const received = receiveBytes(this.#fd, carried === 0 ? bytes : bytes.subarray(carried));
    if (received === -EAGAIN) return 0;
    if (received <= 0) return received === 0 ? undefined : received;
    const to = carried + received;
    this.#keep(bytes, this.#consume(bytes, view, 0, to), to);
    return to === bytes.length ? 1 : 0;
  }

  close(): void {
    this.#closed = true;
    this.#drop();
  }

  #keep(bytes: Uint8Array, from: number, to: number): void {
    if (from >= to || this.#closed) {
      this.#drop();
      return;
    }
    if (bytes === this.#carry) {
      this.#from = from;
      this.#to = to;
      return;
    }
    const length = to - from;
    if (this.#carry === undefined || this.#carry.length < length) {
      this.#drop();
      this.#carry = this.#buffers.take(length);
    }
    this.#carry.set(bytes.subarray(from, to));
    this.#from = 0;
    this.#to = length;
  }

  #drop(): void {
    if (this.#carry !== undefined) this.#buffers.giveBack(this.#carry);
    this.#carry = undefined;
    this.#from = 0;
    this.#to = 0;
  }
}
