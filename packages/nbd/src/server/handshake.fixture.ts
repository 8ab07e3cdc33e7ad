/** A `ServerHandshake` with a client's bytes poured into it, and a directory of exports that can change. */
import { type HandshakeOutcome, ServerHandshake } from "../../dist/server/handshake.js";
import type { ExportDirectory, ExportOffer } from "../../dist/server/export-offer.js";
import type { TlsPolicy } from "../../dist/server/haggling.js";
import { clientFlags, parseReplies, tell } from "./option-wire.fixture.ts";

/** What a writable export of a file can do, as QEMU has it: everything but SEND_DF. */
export const writableFlags = 0x0d6d;

export function offerOf(name: string, changes: Partial<ExportOffer> = {}): ExportOffer {
  return {
    name,
    description: "",
    length: 1024 * 1024,
    flags: writableFlags,
    blockSize: { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 },
    contexts: ["base:allocation"],
    ...changes,
  };
}

export class Directory implements ExportDirectory {
  readonly offers: Map<string, ExportOffer> = new Map();

  constructor(...offers: readonly ExportOffer[]) {
    for (const offer of offers) this.offers.set(offer.name, offer);
  }

  list(): Iterable<ExportOffer> {
    return this.offers.values();
  }

  find(name: string): ExportOffer | undefined {
    return this.offers.get(name);
  }
}

/** One disk with everything, and the default export. */
export function usualDirectory(): Directory {
  const contexts = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:daily", "qemu:dirty-bitmap:weekly"];
  return new Directory(
    offerOf("disk", { description: "the guest's", contexts }),
    offerOf("", { contexts: ["base:allocation"] }),
  );
}

export interface Answered {
  readonly output: Buffer;
  readonly outcome: HandshakeOutcome;
  /** Steps that wanted to be flushed before the next. */
  readonly flushes: number;
}

/** Hands over bytes as a caller does that flushes at once. */
export function pour(handshake: ServerHandshake, bytes: Uint8Array): Answered {
  const parts: Uint8Array[] = [];
  let { output, outcome } = handshake.receive(bytes);
  parts.push(output);
  let flushes = 0;
  while (outcome.type === "flush") {
    flushes++;
    ({ output, outcome } = handshake.receive(new Uint8Array(0)));
    parts.push(output);
  }
  return { output: Buffer.concat(parts), outcome, flushes };
}

/** A handshake that is at its options, for scenarios that begin there. */
export class Scene {
  readonly directory: Directory;
  readonly handshake: ServerHandshake;
  outcome: HandshakeOutcome = { type: "more" };

  constructor(options: { tls?: TlsPolicy; directory?: Directory; flags?: number } = {}) {
    this.directory = options.directory ?? usualDirectory();
    this.handshake = new ServerHandshake(this.directory, options.tls ?? "off");
    this.#pour(clientFlags(options.flags));
  }

  /** Sends options; the replies, a line each. */
  send(...options: readonly Uint8Array[]): string[] {
    return tell(parseReplies(this.#pour(Buffer.concat(options))));
  }

  /** Sends something whose answer has no header. */
  sendRaw(...bytes: readonly Uint8Array[]): Buffer {
    return this.#pour(Buffer.concat(bytes));
  }

  #pour(bytes: Uint8Array): Buffer {
    const { output, outcome } = pour(this.handshake, bytes);
    this.outcome = outcome;
    return output;
  }
}
