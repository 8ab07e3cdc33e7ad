/**
 * The client's side of the negotiation, as a machine without I/O and without time: bytes of the server in, actions as
 * data out. Whoever runs it sends what it says, starts TLS when it says so, and keeps a deadline.
 *
 *   greeting ── oldstyle ──────────────────────────────────────────────────────────────────► done
 *      │
 *      ├─ newstyle, not fixed ── EXPORT_NAME ───────────────────────────────────────────────► done
 *      │
 *      └─ fixed ─ [STARTTLS] ─ EXTENDED_HEADERS ─ (refused: STRUCTURED_REPLY) ─┬─ [SET_META_CONTEXT] ─ GO ──► done
 *                                                                              │        (unknown: EXPORT_NAME)
 *                                                                              ├─ INFO, LIST_META_CONTEXT ─ ABORT ─► done
 *                                                                              └─ LIST, each as above ── ABORT ────► done
 *
 * - TLS is required or off. Nothing but STARTTLS is sent before it, nothing goes on without it, and a byte that came in
 *   the clear after the server's consent ends the connection: somebody in between might have put it there.
 * - What is optional (extended headers, structured replies, contexts) is done without where the server refuses it.
 * - Every length has a limit (limits.ts). An answer to another question, or of another shape, is the end.
 */
import * as nbd from "../protocol/constants.ts";
import { NbdError, type NbdErrorCode } from "../protocol/nbd-error.ts";
import type { BlockSize, SelectedContext } from "../server/export-offer.ts";
import { Negotiation } from "./negotiation.ts";
import { encodeOption } from "./option-codec.ts";
import type { Steps, Wait } from "./option-exchange.ts";

export interface HandshakeWish {
  /** Required, or off. */
  readonly tls: boolean;
  readonly goal:
    /** Full names of the contexts; those that the server has not are left out. */
    | { readonly kind: "transmission"; readonly exportName: string; readonly contexts: readonly string[] }
    /** What the server tells of an export, without using it. */
    | { readonly kind: "description"; readonly exportName: string }
    | { readonly kind: "list" };
}

/** What a server tells of an export. */
export interface ExportDescription {
  /** As it was asked for, or as it is listed. */
  readonly name: string;
  readonly description: string | undefined;
  /** The name that the server itself uses, where it is another. */
  readonly canonicalName: string | undefined;
  /** Bytes. */
  readonly length: number;
  /** Transmission flags. */
  readonly flags: number;
  /** As the server says it, or as the protocol says for one that is silent. */
  readonly blockSize: BlockSize;
}

/** What was agreed on when transmission begins. */
export interface Agreement {
  readonly export: ExportDescription;
  readonly tls: boolean;
  /** Structured replies, or extended headers (which imply them). */
  readonly structured: boolean;
  readonly extended: boolean;
  readonly contexts: readonly SelectedContext[];
}

/** An export of a list; what it does not tell before it is used is `undefined`. */
export interface ListedExport {
  readonly name: string;
  readonly description: string;
  readonly details: (ExportDescription & { readonly contexts: readonly string[] }) | undefined;
}

export type HandshakeResult =
  | { readonly kind: "transmission"; readonly agreement: Agreement }
  | { readonly kind: "list"; readonly exports: readonly ListedExport[] };

export type HandshakeAction =
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  /** Start TLS on the connection, then call `secured`. */
  | { readonly kind: "start-tls" }
  /** `rest`: bytes that came after the handshake. */
  | { readonly kind: "done"; readonly result: HandshakeResult; readonly rest: Uint8Array }
  /** Close the connection, after what was to be sent before. */
  | { readonly kind: "failed"; readonly error: NbdError };

/**
 * @example
 * const handshake = new ClientHandshake({ tls: false, goal: { kind: "transmission", exportName: "", contexts: [] } });
 * for (const action of handshake.receive(bytesOfTheServer)) if (action.kind === "send") socket.write(action.bytes);
 */
export class ClientHandshake {
  readonly #negotiation: Negotiation;
  readonly #steps: Steps<HandshakeResult>;
  #wait: Wait | undefined;
  #input: Uint8Array = new Uint8Array();

  constructor(wish: HandshakeWish) {
    this.#negotiation = new Negotiation(wish);
    this.#steps = this.#negotiation.steps();
    this.#wait = this.#steps.next().value as Wait;
  }

  /** What it is doing, as in "the server closed the connection while ...". */
  get stage(): string {
    return this.#negotiation.wire.stage;
  }

  /**
   * TLS has begun and nothing has come through it yet: what goes wrong now is about TLS. In TLS 1.3 a client is done before
   * the server has looked at what it shows, so it may hear of it only at the first reply.
   */
  get securing(): boolean {
    if (this.#wait === "tls") return true;
    return this.#wait !== undefined && this.#negotiation.tls && this.stage.endsWith("EXTENDED_HEADERS");
  }

  /** Bytes came from the server. They are copied. */
  receive(bytes: Uint8Array): HandshakeAction[] {
    if (this.#wait === undefined) return [];
    this.#input = Buffer.concat([this.#input, bytes]);
    while (this.#wait !== undefined) {
      if (this.#wait === "tls") {
        if (this.#input.length > 0) {
          const what = "the server sent bytes in the clear after it had agreed to TLS";
          this.#fail(this.#negotiation.wire.error("ERR_NBD_TLS", what));
        }
        break;
      }
      if (this.#input.length < this.#wait.bytes) break;
      const taken = this.#input.subarray(0, this.#wait.bytes);
      this.#input = this.#input.subarray(this.#wait.bytes);
      this.#resume(taken);
    }
    return this.#takeActions();
  }

  /** TLS stands; everything from here on came through it. */
  secured(): HandshakeAction[] {
    if (this.#wait === "tls") this.#resume(new Uint8Array());
    return this.#takeActions();
  }

  /** The server closed the connection. */
  ended(): HandshakeAction[] {
    if (this.#wait === undefined) return [];
    const { code, why } = this.#reasonToClose();
    this.#fail(this.#negotiation.wire.error(code, `the server closed the connection while ${this.stage}${why}`));
    return this.#takeActions();
  }

  /** Where closing is all that the protocol lets a server say. */
  #reasonToClose(): { readonly code: NbdErrorCode; readonly why: string } {
    if (this.stage.endsWith("EXPORT_NAME")) {
      return { code: "ERR_NBD_REFUSED", why: ": it has no such export, or wants TLS" };
    }
    if (this.securing) return { code: "ERR_NBD_TLS", why: ": it does not accept what it was shown" };
    return { code: "ERR_NBD_PROTOCOL", why: "" };
  }

  #resume(bytes: Uint8Array): void {
    try {
      const next = this.#steps.next(bytes);
      this.#wait = next.done === true ? undefined : next.value;
      if (next.done !== true) return;
      this.#negotiation.wire.actions.push({ kind: "done", result: next.value, rest: this.#input });
    } catch (error) {
      if (!(error instanceof NbdError)) throw error;
      // A server that refused, and is in order, is left in order.
      if (error.reply !== undefined) this.#negotiation.wire.send(encodeOption(nbd.OPT_ABORT));
      this.#fail(error);
    }
  }

  #fail(error: NbdError): void {
    this.#wait = undefined;
    this.#negotiation.wire.actions.push({ kind: "failed", error });
  }

  #takeActions(): HandshakeAction[] {
    const { actions } = this.#negotiation.wire;
    this.#negotiation.wire.actions = [];
    return actions;
  }
}
