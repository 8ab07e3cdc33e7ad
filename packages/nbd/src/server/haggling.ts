/**
 * What the options of a connection mean: one answer per option, and what has been agreed on so far. Knows nothing of
 * bytes that are not there yet; `handshake.ts` hands it whole options.
 *
 *     option               before TLS, where TLS is required      otherwise
 *     EXPORT_NAME          closed                                 transmission, or closed where it cannot be
 *     ABORT                ACK, closed                            ACK, closed
 *     STARTTLS             ACK, TLS                               refused: no TLS here, or TLS already
 *     every other          ERR_TLS_REQD                           answered
 *
 * Once the server is stopping every option but ABORT gets ERR_SHUTDOWN, and EXPORT_NAME, which can be told nothing,
 * closes the connection. The same where a client did not say that it speaks fixed newstyle.
 */
import {
  FLAG_BLOCK_STATUS_PAYLOAD,
  FLAG_HAS_FLAGS,
  FLAG_SEND_DF,
  INFO_BLOCK_SIZE,
  INFO_NAME,
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_INFO,
  OPT_LIST,
  OPT_LIST_META_CONTEXT,
  OPT_SET_META_CONTEXT,
  OPT_STARTTLS,
  OPT_STRUCTURED_REPLY,
  REP_ERR_BLOCK_SIZE_REQD,
  REP_ERR_EXT_HEADER_REQD,
  REP_ERR_INVALID,
  REP_ERR_POLICY,
  REP_ERR_SHUTDOWN,
  REP_ERR_TLS_REQD,
  REP_ERR_TOO_BIG,
  REP_ERR_UNKNOWN,
  REP_ERR_UNSUP,
} from "../protocol/constants.ts";
import type { ExportDirectory, ExportOffer, Negotiated, SelectedContext } from "./export-offer.ts";
import { BLOCK_BYTES_ASSUMED, NAME_BYTES_MAX, PAYLOAD_BYTES_KEPT_MAX } from "./handshake-limits.ts";
import { listedContexts, selectedContexts } from "./meta-contexts.ts";
import { optionName } from "./option-names.ts";
import { decodeName, nameToTell, OptionPayload, type OptionRefusal } from "./option-payload.ts";
import {
  ackReply,
  contextReply,
  errorReply,
  exportNameAnswer,
  infoBlockSize,
  infoDescription,
  infoExport,
  infoName,
  serverReply,
} from "./option-replies.ts";

/** Why a connection ended before its transmission. */
export type HandshakeEndCode =
  /** The client was done, and said so. */
  | "ERR_NBD_ABORTED"
  /** What arrived is not the protocol. */
  | "ERR_NBD_PROTOCOL"
  /** More than anyone needs of something that is limited. */
  | "ERR_NBD_LIMIT"
  /** It asked in a way that leaves no other refusal. */
  | "ERR_NBD_REFUSED";

export interface Closed {
  readonly type: "closed";
  readonly code: HandshakeEndCode;
  readonly reason: string;
}

/** What comes after the replies. */
export type Next =
  | { readonly type: "option" }
  | { readonly type: "startTls" }
  | { readonly type: "transmission"; readonly negotiated: Negotiated }
  | Closed;

export interface Answer {
  /** To be sent in order. Made one by one, since a list can be long. */
  readonly replies: Iterable<Uint8Array>;
  readonly next: Next;
}

/** What is to become of an option's payload: kept and answered, drained and answered as it stands, or the end. */
export type Admission = { readonly type: "keep" } | { readonly type: "drain"; readonly answer: Answer } | Closed;

/** "required": nothing but STARTTLS and ABORT before TLS. There is no state in which TLS may be left out. */
export type TlsPolicy = "off" | "required";

const goOn: Next = { type: "option" };

/** The selection of a SET_META_CONTEXT, and the export that it was made for. */
interface Selection {
  readonly exportName: string;
  readonly contexts: readonly SelectedContext[];
}

export class Haggling {
  readonly #directory: ExportDirectory;
  readonly #tls: TlsPolicy;
  #tlsStarted = false;
  #stopping = false;
  #fixedNewstyle = false;
  #noZeroes = false;
  #structured = false;
  #extended = false;
  #selection: Selection | undefined;
  /** The export whose block sizes an INFO asked for: its GO need not ask again. */
  #blockSizeAskedFor: string | undefined;

  constructor(directory: ExportDirectory, tls: TlsPolicy) {
    this.#directory = directory;
    this.#tls = tls;
  }

  clientFlags(flags: { readonly fixedNewstyle: boolean; readonly noZeroes: boolean }): void {
    this.#fixedNewstyle = flags.fixedNewstyle;
    this.#noZeroes = flags.noZeroes;
  }

  /** Whatever was agreed in the clear may have been put there by somebody else. */
  tlsStarted(): void {
    this.#tlsStarted = true;
    this.#structured = false;
    this.#extended = false;
    this.#selection = undefined;
    this.#blockSizeAskedFor = undefined;
  }

  stop(): void {
    this.#stopping = true;
  }

  /** An option was announced; nothing of its payload needs to be there yet. */
  admit(option: number, length: number): Admission {
    if (option === OPT_EXPORT_NAME) return this.#admitExportName(length);
    if (!this.#fixedNewstyle) {
      return closed("ERR_NBD_PROTOCOL", `option '${optionName(option)}' from a client without fixed newstyle`);
    }
    if (option === OPT_ABORT) {
      const next = closed("ERR_NBD_ABORTED", "the client ended the negotiation");
      return { type: "drain", answer: { replies: [ackReply(option)], next } };
    }
    if (this.#stopping) return drain(option, REP_ERR_SHUTDOWN, "The server is shutting down");
    const needsTls = this.#needsTls();
    if (needsTls && option !== OPT_STARTTLS) {
      return drain(option, REP_ERR_TLS_REQD, `Option 0x${option.toString(16)} not permitted before TLS`);
    }
    switch (option) {
      case OPT_STARTTLS:
        // With a payload it is not what a client meant to say; and where TLS is to come nothing is read past that.
        if (length > 0) return drain(option, REP_ERR_INVALID, unexpectedLength(option), needsTls ? afterBadTls : goOn);
        return { type: "keep" };
      case OPT_LIST:
      case OPT_STRUCTURED_REPLY:
      case OPT_EXTENDED_HEADERS:
        return length > 0 ? drain(option, REP_ERR_INVALID, unexpectedLength(option)) : { type: "keep" };
      case OPT_SET_META_CONTEXT:
        // What was selected before is gone whether or not this one succeeds.
        this.#selection = undefined;
        return admitLong(option, length);
      case OPT_INFO:
      case OPT_GO:
      case OPT_LIST_META_CONTEXT:
        return admitLong(option, length);
      default:
        return drain(option, REP_ERR_UNSUP, `Unsupported option ${option} (${optionName(option)})`);
    }
  }

  /** An option whose payload was to be kept, and is complete. */
  answer(option: number, bytes: Uint8Array): Answer {
    switch (option) {
      case OPT_EXPORT_NAME:
        return this.#exportName(bytes);
      case OPT_LIST:
        return { replies: this.#listReplies(), next: goOn };
      case OPT_STARTTLS:
        return this.#startTls();
      case OPT_INFO:
      case OPT_GO:
        return this.#info(option, new OptionPayload(option, bytes));
      case OPT_STRUCTURED_REPLY:
        return this.#structuredReply();
      case OPT_EXTENDED_HEADERS:
        return this.#extendedHeaders();
      case OPT_LIST_META_CONTEXT:
      case OPT_SET_META_CONTEXT:
        return this.#metaContext(option, new OptionPayload(option, bytes));
      default:
        throw new Error(`Heirloom's own invariant does not hold: option ${option} was kept, and nobody answers it`);
    }
  }

  #needsTls(): boolean {
    return this.#tls === "required" && !this.#tlsStarted;
  }

  #admitExportName(length: number): Admission {
    const refused = (reason: string): Closed => closed("ERR_NBD_REFUSED", `option 'export name' ${reason}`);
    if (this.#stopping) return refused("while the server is shutting down");
    if (this.#needsTls()) return refused("not permitted before TLS");
    if (this.#extended) return refused("not permitted with extended headers");
    if (length > NAME_BYTES_MAX) return closed("ERR_NBD_PROTOCOL", `Invalid name length: ${length}`);
    return { type: "keep" };
  }

  #exportName(bytes: Uint8Array): Answer {
    const name = bytes.includes(0) ? undefined : decodeName(bytes);
    if (name === undefined) return last(closed("ERR_NBD_PROTOCOL", "the name of an export is not UTF-8 without NUL"));
    const offer = this.#directory.find(name);
    if (offer === undefined) return last(closed("ERR_NBD_REFUSED", notPresent(name)));
    const problem = this.#problemWithoutBlockSize(offer) ?? this.#problemWithSelection(offer);
    if (problem !== undefined) return last(closed("ERR_NBD_REFUSED", problem.text));
    return {
      replies: [exportNameAnswer(offer.length, this.#flags(offer), this.#noZeroes)],
      next: { type: "transmission", negotiated: this.#negotiated(offer) },
    };
  }

  *#listReplies(): Iterable<Uint8Array> {
    for (const offer of this.#directory.list()) yield serverReply(OPT_LIST, offer);
    yield ackReply(OPT_LIST);
  }

  #startTls(): Answer {
    if (this.#tlsStarted) return refuse(OPT_STARTTLS, REP_ERR_INVALID, "TLS already enabled");
    if (this.#tls === "off") return refuse(OPT_STARTTLS, REP_ERR_POLICY, "TLS not configured");
    return { replies: [ackReply(OPT_STARTTLS)], next: { type: "startTls" } };
  }

  #structuredReply(): Answer {
    const option = OPT_STRUCTURED_REPLY;
    if (this.#extended) return refuse(option, REP_ERR_EXT_HEADER_REQD, "extended headers already negotiated");
    if (this.#structured) return refuse(option, REP_ERR_INVALID, "structured reply already negotiated");
    this.#structured = true;
    return acknowledge(option);
  }

  #extendedHeaders(): Answer {
    if (this.#extended) return refuse(OPT_EXTENDED_HEADERS, REP_ERR_INVALID, "extended headers already negotiated");
    this.#extended = true;
    this.#structured = true;
    return acknowledge(OPT_EXTENDED_HEADERS);
  }

  /** Name, count of requests u16, and as many ids of information u16; those that nobody knows are none of our business. */
  #info(option: number, payload: OptionPayload): Answer {
    const name = payload.name();
    const asked = payload.requests();
    payload.end();
    const bad = payload.refused();
    if (bad !== undefined) return refuseAs(option, bad);
    const offer = this.#directory.find(name);
    if (offer === undefined) return refuse(option, REP_ERR_UNKNOWN, notPresent(name));

    const replies: Uint8Array[] = [];
    if (asked.has(INFO_NAME)) replies.push(infoName(option, offer.name));
    if (offer.description !== "") replies.push(infoDescription(option, offer.description));
    replies.push(infoBlockSize(option, offer), infoExport(option, offer.length, this.#flags(offer)));

    if (asked.has(INFO_BLOCK_SIZE)) this.#blockSizeAskedFor = name;
    const problem = this.#problemOf(option, offer);
    replies.push(problem === undefined ? ackReply(option) : errorReply(option, problem));
    if (problem !== undefined || option === OPT_INFO) return { replies, next: goOn };
    return { replies, next: { type: "transmission", negotiated: this.#negotiated(offer) } };
  }

  /** Why this INFO or GO fails although there is such an export. */
  #problemOf(option: number, offer: ExportOffer): OptionRefusal | undefined {
    if (option === OPT_GO) return this.#problemWithoutBlockSize(offer) ?? this.#problemWithSelection(offer);
    if (offer.blockSize.minimum > 1 && this.#blockSizeAskedFor !== offer.name) return askBlockSize;
    return undefined;
  }

  /**
   * A client that goes to transmission without asking for block sizes keeps to 512 bytes if it heeds the protocol's text
   * (nbd-client with the kernel's driver does). Where that is not enough its requests would fail one by one.
   */
  #problemWithoutBlockSize(offer: ExportOffer): OptionRefusal | undefined {
    const asked = this.#blockSizeAskedFor === offer.name;
    return asked || offer.blockSize.minimum <= BLOCK_BYTES_ASSUMED ? undefined : askBlockSize;
  }

  /** The export may have been replaced since its contexts were selected: what was promised must still be there. */
  #problemWithSelection(offer: ExportOffer): OptionRefusal | undefined {
    for (const { id, name } of this.#selectionFor(offer)) {
      if (offer.contexts[id - 1] !== name) {
        const text = `export '${nameToTell(offer.name)}' has changed since its metadata contexts were selected`;
        return { reply: REP_ERR_INVALID, text };
      }
    }
    return undefined;
  }

  /** Name, count of queries u32, and for each its length u32 and text. */
  #metaContext(option: number, payload: OptionPayload): Answer {
    const selects = option === OPT_SET_META_CONTEXT;
    if (selects && !this.#structured) {
      const text = `request option '${optionName(option)}' when structured reply is not negotiated`;
      return refuse(option, REP_ERR_INVALID, text);
    }
    const name = payload.name();
    const badName = payload.refused();
    if (badName !== undefined) return refuseAs(option, badName);
    const offer = this.#directory.find(name);
    if (offer === undefined) return refuse(option, REP_ERR_UNKNOWN, notPresent(name));
    const queries = payload.queries();
    payload.end();
    const badQueries = payload.refused();
    if (badQueries !== undefined) return refuseAs(option, badQueries);
    if (!selects) return { replies: listReplies(option, listedContexts(offer, queries)), next: goOn };
    const contexts = selectedContexts(offer, queries);
    this.#selection = { exportName: name, contexts };
    return { replies: selectionReplies(option, contexts), next: goOn };
  }

  #selectionFor(offer: ExportOffer): readonly SelectedContext[] {
    return this.#selection?.exportName === offer.name ? this.#selection.contexts : [];
  }

  #flags(offer: ExportOffer): number {
    let flags = offer.flags | FLAG_HAS_FLAGS;
    if (this.#structured) flags |= FLAG_SEND_DF;
    if (this.#extended && this.#selectionFor(offer).length > 0) flags |= FLAG_BLOCK_STATUS_PAYLOAD;
    return flags;
  }

  #negotiated(offer: ExportOffer): Negotiated {
    const contexts = this.#selectionFor(offer);
    return { offer, structured: this.#structured, extended: this.#extended, contexts };
  }
}

const askBlockSize: OptionRefusal = {
  reply: REP_ERR_BLOCK_SIZE_REQD,
  text: "request NBD_INFO_BLOCK_SIZE to use this export",
};

const afterBadTls: Closed = closed("ERR_NBD_PROTOCOL", unexpectedLength(OPT_STARTTLS));

function closed(code: HandshakeEndCode, reason: string): Closed {
  return { type: "closed", code, reason };
}

function last(next: Closed): Answer {
  return { replies: [], next };
}

function acknowledge(option: number): Answer {
  return { replies: [ackReply(option)], next: goOn };
}

function refuse(option: number, reply: number, text: string, next: Next = goOn): Answer {
  return { replies: [errorReply(option, { reply, text })], next };
}

function refuseAs(option: number, { reply, text }: OptionRefusal): Answer {
  return refuse(option, reply, text);
}

function drain(option: number, reply: number, text: string, next: Next = goOn): Admission {
  return { type: "drain", answer: refuse(option, reply, text, next) };
}

function admitLong(option: number, length: number): Admission {
  if (length <= PAYLOAD_BYTES_KEPT_MAX) return { type: "keep" };
  const text = `option '${optionName(option)}' has ${length} bytes, of which ${PAYLOAD_BYTES_KEPT_MAX} are the most`;
  return drain(option, REP_ERR_TOO_BIG, text);
}

function unexpectedLength(option: number): string {
  return `option '${optionName(option)}' has unexpected length`;
}

function notPresent(name: string): string {
  return `export '${nameToTell(name)}' not present`;
}

function* listReplies(option: number, names: readonly string[]): Iterable<Uint8Array> {
  // Ids mean something only once they are selected.
  for (const name of names) yield contextReply(option, 0, name);
  yield ackReply(option);
}

function* selectionReplies(option: number, contexts: readonly SelectedContext[]): Iterable<Uint8Array> {
  for (const { id, name } of contexts) yield contextReply(option, id, name);
  yield ackReply(option);
}
