/**
 * The steps of the client's negotiation: a generator that yields what it waits for, so that the code reads as the table
 * in handshake.ts does. It decides; `ClientHandshake` feeds it.
 */
import * as nbd from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import type { BlockSize, SelectedContext } from "../server/export-offer.ts";
import type { ExportDescription, HandshakeResult, HandshakeWish, ListedExport } from "./handshake.ts";
import { LIST_DETAILS_MAX } from "./limits.ts";
import {
  decodeContext,
  decodeInformation,
  decodeListed,
  encodeContextRequest,
  encodeInfoRequest,
  encodeOption,
} from "./option-codec.ts";
import { OptionExchange, type Steps, viewOf } from "./option-exchange.ts";
import { plainText } from "./plain-text.ts";

const OLDSTYLE_MAGIC = 0x00420281861253n;
/** After size and flags of an oldstyle greeting, and of EXPORT_NAME for a client that does not say NO_ZEROES. */
const ZEROES_BYTES = 124;

export class Negotiation {
  readonly wire: OptionExchange = new OptionExchange();
  readonly #wish: HandshakeWish;

  constructor(wish: HandshakeWish) {
    this.#wish = wish;
  }

  get tls(): boolean {
    return this.#wish.tls;
  }

  *steps(): Steps<HandshakeResult> {
    const { goal, tls } = this.#wish;
    const greeting = viewOf(yield { bytes: 16 });
    if (greeting.getBigUint64(0) !== nbd.NBD_MAGIC) {
      throw this.wire.protocol("it does not begin with NBDMAGIC: this is no NBD server");
    }
    if (greeting.getBigUint64(8) === OLDSTYLE_MAGIC) return yield* this.#oldstyle();
    if (greeting.getBigUint64(8) !== nbd.OPTION_MAGIC) throw this.wire.protocol("its greeting is of no known style");
    const flags = viewOf(yield { bytes: 2 }).getUint16(0);
    const fixed = (flags & nbd.FLAG_FIXED_NEWSTYLE) !== 0;
    const noZeroes = (flags & nbd.FLAG_NO_ZEROES) !== 0;
    this.wire.send(clientFlags(flags & (nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES)));
    if (!fixed) {
      this.#needFixed(tls, goal.kind);
      return this.#transmission(yield* this.#exportName(noZeroes), false, false, []);
    }
    if (tls) yield* this.#startTls();
    const extended = yield* this.#optional(nbd.OPT_EXTENDED_HEADERS);
    const structured = extended || (yield* this.#optional(nbd.OPT_STRUCTURED_REPLY));
    if (goal.kind === "list") return yield* this.#list(structured);
    if (goal.kind === "description") {
      const details = yield* this.#details(goal.exportName, structured);
      this.wire.send(encodeOption(nbd.OPT_ABORT));
      const { name, description } = details;
      return { kind: "list", exports: [{ name, description: description ?? "", details }] };
    }
    const contexts = structured ? yield* this.#selectContexts(goal.exportName, goal.contexts) : [];
    const description = yield* this.#go(nbd.OPT_GO, goal.exportName);
    if (description !== undefined) return this.#transmission(description, structured, extended, contexts);
    if (extended) throw this.wire.protocol("it knows extended headers but not GO");
    return this.#transmission(yield* this.#exportName(noZeroes), structured, extended, contexts);
  }

  #transmission(
    description: ExportDescription,
    structured: boolean,
    extended: boolean,
    contexts: readonly SelectedContext[],
  ): HandshakeResult {
    const agreement = { export: description, tls: this.#wish.tls, structured, extended, contexts };
    return { kind: "transmission", agreement };
  }

  *#oldstyle(): Steps<HandshakeResult> {
    const { goal, tls } = this.#wish;
    this.#needFixed(tls, goal.kind);
    // There is one export, without a name: another name means that another disk was meant.
    const name = goal.kind === "list" ? "" : goal.exportName;
    if (name !== "") throw this.wire.error("ERR_NBD_EXPORT_UNKNOWN", "the server is of the old style: it has no names");
    this.wire.stage = "waiting for the rest of an oldstyle greeting";
    const view = viewOf(yield { bytes: 8 + 4 + ZEROES_BYTES });
    const description = this.#describe("", { length: view.getBigUint64(0), flags: view.getUint16(10) });
    return this.#transmission(description, false, false, []);
  }

  #needFixed(tls: boolean, goal: HandshakeWish["goal"]["kind"]): void {
    if (tls) throw this.wire.error("ERR_NBD_TLS", "the server is too old for TLS (no fixed newstyle)");
    if (goal === "transmission") return;
    throw this.wire.error("ERR_NBD_UNSUPPORTED", "the server is too old to be asked (no fixed newstyle)");
  }

  *#startTls(): Steps<void> {
    this.wire.send(encodeOption(nbd.OPT_STARTTLS));
    const reply = yield* this.wire.reply(nbd.OPT_STARTTLS);
    if (reply.type !== nbd.REP_ACK) {
      this.wire.expectError(nbd.OPT_STARTTLS, reply);
      throw this.wire.refusal("ERR_NBD_TLS", "TLS is required, and the server refuses it", reply);
    }
    this.wire.stage = "starting TLS";
    this.wire.actions.push({ kind: "start-tls" });
    yield "tls";
  }

  /** An option without payload that the client can do without. @returns whether the server agreed */
  *#optional(option: number): Steps<boolean> {
    this.wire.send(encodeOption(option));
    const reply = yield* this.wire.reply(option);
    if (reply.type === nbd.REP_ACK) return true;
    this.wire.expectError(option, reply);
    this.wire.refuseIfFinal(reply);
    return false;
  }

  *#selectContexts(exportName: string, wanted: readonly string[]): Steps<SelectedContext[]> {
    if (wanted.length === 0) return [];
    const option = nbd.OPT_SET_META_CONTEXT;
    this.wire.send(encodeOption(option, encodeContextRequest(exportName, wanted)));
    const selected: SelectedContext[] = [];
    for (const reply of yield* this.wire.replies(option, nbd.REP_META_CONTEXT)) {
      if (reply.type !== nbd.REP_META_CONTEXT) {
        // Without contexts, then. If the export is unknown GO says so, in words for people.
        this.wire.refuseIfFinal(reply);
        return [];
      }
      const context = decodeContext(reply.payload);
      if (context === undefined) throw this.wire.protocol("a metadata context has a wrong shape");
      if (!wanted.includes(context.name)) {
        throw this.wire.protocol(`it selects the context '${plain(context.name)}', which was not asked for`);
      }
      if (selected.some(({ id, name }) => id === context.id || name === context.name)) {
        throw this.wire.protocol(`it selects the context '${context.name}' or its number ${context.id} twice`);
      }
      selected.push(context);
    }
    return selected;
  }

  /** GO or INFO. @returns undefined where the server does not know the option */
  *#go(option: number, exportName: string): Steps<ExportDescription | undefined> {
    const wanted = [nbd.INFO_BLOCK_SIZE, nbd.INFO_NAME, nbd.INFO_DESCRIPTION];
    this.wire.send(encodeOption(option, encodeInfoRequest(exportName, wanted)));
    const found: Found = {};
    for (const reply of yield* this.wire.replies(option, nbd.REP_INFO)) {
      if (reply.type === nbd.REP_ERR_UNSUP) return undefined;
      if (reply.type !== nbd.REP_INFO) {
        this.wire.refuseIfFinal(reply);
        const code = reply.type === nbd.REP_ERR_UNKNOWN ? "ERR_NBD_EXPORT_UNKNOWN" : "ERR_NBD_REFUSED";
        throw this.wire.refusal(code, `the server refuses the export '${exportName}'`, reply);
      }
      const information = decodeInformation(reply.payload);
      if (information === undefined) throw this.wire.protocol("a piece of information has a wrong shape");
      if (information.type === "export") found.export = information;
      if (information.type === "block-size") found.blockSize = information;
      if (information.type === "name") found.canonicalName = information.text;
      if (information.type === "description") found.description = information.text;
    }
    if (found.export === undefined) throw this.wire.protocol("it agrees to an export without telling its length");
    return this.#describe(exportName, found.export, found);
  }

  *#exportName(noZeroes: boolean): Steps<ExportDescription> {
    const { goal } = this.#wish;
    const name = goal.kind === "list" ? "" : goal.exportName;
    this.wire.send(encodeOption(nbd.OPT_EXPORT_NAME, Buffer.from(name)));
    this.wire.stage = "waiting for the reply to EXPORT_NAME";
    const view = viewOf(yield { bytes: 8 + 2 });
    if (!noZeroes) yield { bytes: ZEROES_BYTES };
    return this.#describe(name, { length: view.getBigUint64(0), flags: view.getUint16(8) });
  }

  *#list(structured: boolean): Steps<HandshakeResult> {
    this.wire.send(encodeOption(nbd.OPT_LIST));
    const listed: { name: string; description: string }[] = [];
    for (const reply of yield* this.wire.replies(nbd.OPT_LIST, nbd.REP_SERVER)) {
      if (reply.type !== nbd.REP_SERVER) {
        this.wire.refuseIfFinal(reply);
        throw this.wire.refusal("ERR_NBD_REFUSED", "the server does not list its exports", reply);
      }
      const item = decodeListed(reply.payload);
      if (item === undefined) throw this.wire.protocol("an export of its list has a wrong shape");
      listed.push(item);
    }
    const exports: ListedExport[] = [];
    for (const item of listed) {
      const ask = exports.length < LIST_DETAILS_MAX;
      exports.push({ ...item, details: ask ? yield* this.#detailsOfListed(item.name, structured) : undefined });
    }
    this.wire.send(encodeOption(nbd.OPT_ABORT));
    return { kind: "list", exports };
  }

  /** An export that was listed may be gone, or not be for us: that is no reason to keep the others back. */
  *#detailsOfListed(name: string, structured: boolean): Steps<ListedExport["details"]> {
    try {
      return yield* this.#details(name, structured);
    } catch (error) {
      if (error instanceof NbdError && error.reply !== undefined && error.reply !== nbd.REP_ERR_SHUTDOWN) {
        return undefined;
      }
      throw error;
    }
  }

  *#details(name: string, structured: boolean): Steps<NonNullable<ListedExport["details"]>> {
    const description = yield* this.#go(nbd.OPT_INFO, name);
    if (description === undefined) {
      throw new NbdError("ERR_NBD_UNSUPPORTED", "NBD handshake: the server does not tell of exports (no INFO)", {
        reply: nbd.REP_ERR_UNSUP,
      });
    }
    return { ...description, contexts: structured ? yield* this.#listContexts(name) : [] };
  }

  *#listContexts(exportName: string): Steps<string[]> {
    const option = nbd.OPT_LIST_META_CONTEXT;
    this.wire.send(encodeOption(option, encodeContextRequest(exportName, [])));
    const names: string[] = [];
    for (const reply of yield* this.wire.replies(option, nbd.REP_META_CONTEXT)) {
      if (reply.type !== nbd.REP_META_CONTEXT) return [];
      const context = decodeContext(reply.payload);
      if (context === undefined) throw this.wire.protocol("a metadata context has a wrong shape");
      names.push(context.name);
    }
    return names;
  }

  #describe(name: string, size: { length: bigint; flags: number }, found: Found = {}): ExportDescription {
    if (size.length > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw this.wire.error(
        "ERR_NBD_UNSUPPORTED",
        `the export is of ${size.length} bytes; at most 2^53-1 are supported`,
      );
    }
    return {
      name,
      description: found.description,
      canonicalName: found.canonicalName,
      length: Number(size.length),
      flags: (size.flags & nbd.FLAG_HAS_FLAGS) === 0 ? 0 : size.flags,
      blockSize: this.#checkBlockSize(found.blockSize),
    };
  }

  #checkBlockSize(blockSize: BlockSize | undefined): BlockSize {
    if (blockSize === undefined) return { minimum: 1, preferred: 4096, maximum: nbd.PAYLOAD_BYTES_DEFAULT };
    const { minimum, preferred, maximum } = blockSize;
    if (minimum < 1 || minimum > 65536 || (minimum & (minimum - 1)) !== 0) {
      throw this.wire.protocol(`its minimum block size is ${minimum}; expected a power of two up to 65536`);
    }
    if (maximum < minimum)
      throw this.wire.protocol(`its maximum block size ${maximum} is under its minimum ${minimum}`);
    // 2^32-1 is "no limit". What is no multiple of the minimum could not be sent.
    return { minimum, preferred: Math.max(preferred, minimum), maximum: maximum - (maximum % minimum) };
  }
}

/** What the replies to GO and INFO told so far. */
interface Found {
  export?: { length: bigint; flags: number };
  blockSize?: BlockSize;
  canonicalName?: string;
  description?: string;
}

function clientFlags(flags: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, flags);
  return bytes;
}

function plain(text: string): string {
  return plainText(Buffer.from(text));
}
