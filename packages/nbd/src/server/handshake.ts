/**
 * The server's side of the fixed newstyle handshake, as a machine without any effect: bytes in; bytes and an outcome
 * out. It opens nothing, waits for nothing and knows no clock; its caller moves the bytes and keeps the deadline.
 *
 *     state        waits for                          then
 *     flags        4 bytes of client flags            magic, or closed at a flag that nobody defined
 *     magic        8 bytes                            header, or closed
 *     header       option u32, length u32             payload or draining (haggling.ts says which), or closed
 *     payload      `length` bytes, kept               replying
 *     draining     `length` bytes, not kept           replying
 *     replying     the caller to flush a step         magic, tls or over
 *     tls          `tlsStarted()`                     magic, with all that was agreed forgotten
 *     over         nothing: transmission or closed
 *
 * Invariants: how the bytes were split makes no difference to what comes out. Memory is bounded by the longest payload
 * that is kept, one push, and one step of output. No byte that came before TLS is read after it.
 */
import { FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, OPTION_MAGIC } from "../protocol/constants.ts";
import type { ExportDirectory, Negotiated } from "./export-offer.ts";
import { type Answer, type Closed, Haggling, type Next, type TlsPolicy } from "./haggling.ts";
import { OPTION_BYTES_MAX, OPTIONS_MAX, OUTPUT_BYTES_STEP, PAYLOAD_BYTES_MAX } from "./handshake-limits.ts";
import { Inbox } from "./inbox.ts";
import { greeting } from "./option-replies.ts";

export type HandshakeOutcome =
  /** Send the output, and hand over what arrives. */
  | { readonly type: "more" }
  /** There is more to send: wait until the output is flushed, then call `receive` again, with nothing new if need be. */
  | { readonly type: "flush" }
  /** Flush the output, start TLS, then call `tlsStarted` and go on with what arrives through it. */
  | { readonly type: "startTls" }
  /** Flush the output; the handshake is over. `unread` came behind it and belongs to the transmission. */
  | { readonly type: "transmission"; readonly negotiated: Negotiated; readonly unread: Uint8Array }
  /** Flush the output, if there is any, and close. */
  | Closed;

export interface HandshakeStep {
  readonly output: Uint8Array;
  readonly outcome: HandshakeOutcome;
}

type State = "flags" | "magic" | "header" | "payload" | "draining" | "replying" | "tls" | "over";

const MAGIC_BYTES = 8;
const HEADER_BYTES = 8;
const FLAGS_BYTES = 4;

const more: HandshakeOutcome = { type: "more" };
const flush: HandshakeOutcome = { type: "flush" };
const noReplies: Iterator<Uint8Array, unknown> = [][Symbol.iterator]();

export class ServerHandshake {
  readonly #haggling: Haggling;
  readonly #inbox = new Inbox();
  #state: State = "flags";
  #outcome: HandshakeOutcome = more;
  #output: Uint8Array[] = [];
  #outputBytes = 0;
  #options = 0;
  /** Bytes of payload that were announced so far. */
  #announced = 0;
  #option = 0;
  /** Bytes of the option's payload that are still to come. */
  #length = 0;
  #drained: Answer | undefined;
  #replies: Iterator<Uint8Array, unknown> = noReplies;
  #next: Next = { type: "option" };

  constructor(directory: ExportDirectory, tls: TlsPolicy) {
    this.#haggling = new Haggling(directory, tls);
  }

  /** What the server says first. */
  greet(): Uint8Array {
    return greeting(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
  }

  /** Bytes of the client, as they came. */
  receive(bytes: Uint8Array): HandshakeStep {
    if (this.#state === "tls" || this.#state === "over") {
      throw new Error(`Heirloom's own invariant does not hold: bytes for a handshake that is at ${this.#state}`);
    }
    this.#inbox.push(bytes);
    while (this.#advance()) {
      if (this.#outputBytes >= OUTPUT_BYTES_STEP && this.#outcome === more) return this.#step(flush);
    }
    return this.#step(this.#outcome);
  }

  /** TLS stands: options go on through it, and nothing that was agreed before counts. */
  tlsStarted(): void {
    if (this.#state !== "tls") {
      throw new Error(`Heirloom's own invariant does not hold: TLS started for a handshake that is at ${this.#state}`);
    }
    this.#haggling.tlsStarted();
    this.#state = "magic";
    this.#outcome = more;
  }

  /** The server is shutting down: options that come from now on are told so. */
  stop(): void {
    this.#haggling.stop();
  }

  #step(outcome: HandshakeOutcome): HandshakeStep {
    const output = this.#output.length === 1 ? this.#output[0] : Buffer.concat(this.#output, this.#outputBytes);
    this.#output = [];
    this.#outputBytes = 0;
    return { output, outcome };
  }

  /** @returns false where it needs more bytes, or is done */
  #advance(): boolean {
    switch (this.#state) {
      case "flags":
        return this.#with(FLAGS_BYTES, (view) => this.#clientFlags(view.getUint32(0)));
      case "magic":
        return this.#with(MAGIC_BYTES, (view) => this.#magic(view.getBigUint64(0)));
      case "header":
        return this.#with(HEADER_BYTES, (view) => this.#header(view.getUint32(0), view.getUint32(4)));
      case "payload": {
        const payload = this.#inbox.take(this.#length);
        if (payload === undefined) return false;
        this.#reply(this.#haggling.answer(this.#option, payload));
        return true;
      }
      case "draining":
        this.#length -= this.#inbox.skip(this.#length);
        if (this.#length > 0 || this.#drained === undefined) return false;
        this.#reply(this.#drained);
        return true;
      case "replying":
        return this.#nextReply();
      case "tls":
      case "over":
        return false;
    }
  }

  #with(length: number, take: (view: DataView) => void): boolean {
    const bytes = this.#inbox.take(length);
    if (bytes === undefined) return false;
    take(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    return true;
  }

  #clientFlags(flags: number): void {
    if ((flags & ~(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)) !== 0) {
      return this.#close("ERR_NBD_PROTOCOL", `unknown client flags 0x${flags.toString(16)}`);
    }
    this.#haggling.clientFlags({
      fixedNewstyle: (flags & FLAG_FIXED_NEWSTYLE) !== 0,
      noZeroes: (flags & FLAG_NO_ZEROES) !== 0,
    });
    this.#state = "magic";
  }

  #magic(magic: bigint): void {
    if (magic !== OPTION_MAGIC) {
      return this.#close("ERR_NBD_PROTOCOL", `no option where one was expected: magic 0x${magic.toString(16)}`);
    }
    this.#state = "header";
  }

  #header(option: number, length: number): void {
    if (length > OPTION_BYTES_MAX) {
      return this.#close("ERR_NBD_LIMIT", `an option of ${length} bytes, of which ${OPTION_BYTES_MAX} are the most`);
    }
    this.#options++;
    if (this.#options > OPTIONS_MAX) {
      return this.#close("ERR_NBD_LIMIT", `more than ${OPTIONS_MAX} options on one connection`);
    }
    this.#announced += length;
    if (this.#announced > PAYLOAD_BYTES_MAX) {
      return this.#close("ERR_NBD_LIMIT", `more than ${PAYLOAD_BYTES_MAX} bytes of options on one connection`);
    }
    const admission = this.#haggling.admit(option, length);
    if (admission.type === "closed") return this.#close(admission.code, admission.reason);
    this.#option = option;
    this.#length = length;
    this.#drained = admission.type === "drain" ? admission.answer : undefined;
    this.#state = admission.type === "drain" ? "draining" : "payload";
  }

  #reply({ replies, next }: Answer): void {
    this.#replies = replies[Symbol.iterator]();
    this.#next = next;
    this.#state = "replying";
    // Whoever sits between us and the client may put options of their own behind its STARTTLS. A client waits for the
    // answer, so anything that is here already is not its doing; it gets no answer, and is never read.
    if (next.type === "startTls" && this.#inbox.length > 0) {
      this.#close("ERR_NBD_PROTOCOL", `${this.#inbox.length} bytes in the clear behind STARTTLS`);
    }
  }

  #nextReply(): boolean {
    const reply = this.#replies.next();
    if (reply.done === true) {
      this.#replies = noReplies;
      this.#finishOption();
      return this.#state === "magic";
    }
    this.#output.push(reply.value);
    this.#outputBytes += reply.value.length;
    return true;
  }

  #finishOption(): void {
    const next = this.#next;
    switch (next.type) {
      case "option":
        this.#state = "magic";
        return;
      case "startTls":
        this.#state = "tls";
        this.#outcome = next;
        return;
      case "transmission":
        this.#state = "over";
        this.#outcome = { ...next, unread: this.#inbox.takeAll() };
        return;
      case "closed":
        this.#close(next.code, next.reason);
    }
  }

  #close(code: Closed["code"], reason: string): void {
    this.#state = "over";
    this.#outcome = { type: "closed", code, reason };
    this.#inbox.takeAll();
  }
}
