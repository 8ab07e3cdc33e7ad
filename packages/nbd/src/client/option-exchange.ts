/**
 * One option at a time: what is sent, and the replies to it, each checked and within its limits, for the steps of the
 * negotiation (negotiation.ts). Also the words for what goes wrong.
 */
import * as nbd from "../protocol/constants.ts";
import { NbdError, type NbdErrorCode } from "../protocol/nbd-error.ts";
import type { HandshakeAction } from "./handshake.ts";
import { ERROR_TEXT_BYTES_MAX, OPTION_BYTES_MAX, OPTION_REPLY_BYTES_MAX } from "./limits.ts";
import { plainText } from "./plain-text.ts";

/** What the steps wait for: bytes, or TLS. */
export type Wait = { readonly bytes: number } | "tls";
export type Steps<Result> = Generator<Wait, Result, Uint8Array>;

export interface Reply {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** magic u64, option u32, type u32, length u32 */
const REPLY_HEADER_BYTES = 20;

const OPTION_NAMES: Readonly<Record<number, string>> = {
  [nbd.OPT_EXPORT_NAME]: "EXPORT_NAME",
  [nbd.OPT_LIST]: "LIST",
  [nbd.OPT_STARTTLS]: "STARTTLS",
  [nbd.OPT_INFO]: "INFO",
  [nbd.OPT_GO]: "GO",
  [nbd.OPT_STRUCTURED_REPLY]: "STRUCTURED_REPLY",
  [nbd.OPT_LIST_META_CONTEXT]: "LIST_META_CONTEXT",
  [nbd.OPT_SET_META_CONTEXT]: "SET_META_CONTEXT",
  [nbd.OPT_EXTENDED_HEADERS]: "EXTENDED_HEADERS",
};

const ERROR_NAMES: Readonly<Record<number, string>> = {
  [nbd.REP_ERR_UNSUP]: "it does not know this option",
  [nbd.REP_ERR_POLICY]: "its policy forbids it",
  [nbd.REP_ERR_INVALID]: "it calls the option invalid",
  [nbd.REP_ERR_PLATFORM]: "its platform does not support it",
  [nbd.REP_ERR_TLS_REQD]: "it wants TLS first",
  [nbd.REP_ERR_UNKNOWN]: "it has no such export",
  [nbd.REP_ERR_SHUTDOWN]: "it is shutting down",
  [nbd.REP_ERR_BLOCK_SIZE_REQD]: "it wants to be asked for block sizes",
  [nbd.REP_ERR_TOO_BIG]: "the option is too big for it",
  [nbd.REP_ERR_EXT_HEADER_REQD]: "it wants extended headers",
};

export class OptionExchange {
  /** What is to be done next. */
  actions: HandshakeAction[] = [];
  /** What is being waited for, for people. */
  stage = "waiting for the server's greeting";

  /** All replies to an option up to its end: `type`s, and an error as the last one if it ends with one. */
  *replies(option: number, type: number): Steps<Reply[]> {
    const replies: Reply[] = [];
    let bytes = 0;
    for (;;) {
      const reply = yield* this.reply(option);
      bytes += REPLY_HEADER_BYTES + reply.payload.length;
      if (bytes > OPTION_BYTES_MAX) {
        throw this.protocol(`its replies to ${optionName(option)} pass ${OPTION_BYTES_MAX} bytes`);
      }
      if (reply.type === nbd.REP_ACK) return replies;
      if (reply.type !== type) this.expectError(option, reply);
      replies.push(reply);
      if (reply.type !== type) return [reply];
    }
  }

  *reply(option: number): Steps<Reply> {
    this.stage = `waiting for the reply to ${optionName(option)}`;
    const header = viewOf(yield { bytes: REPLY_HEADER_BYTES });
    if (header.getBigUint64(0) !== nbd.OPTION_REPLY_MAGIC) {
      throw this.protocol(`the magic number of its reply to ${optionName(option)} is wrong`);
    }
    const answered = header.getUint32(8);
    if (answered !== option) {
      throw this.protocol(`it answers option ${answered} where ${optionName(option)} was asked`);
    }
    const type = header.getUint32(12);
    const length = header.getUint32(16);
    if (length > OPTION_REPLY_BYTES_MAX) {
      throw this.protocol(`a reply to ${optionName(option)} has ${length} bytes; at most ${OPTION_REPLY_BYTES_MAX}`);
    }
    if (type === nbd.REP_ACK && length > 0) throw this.protocol(`its consent to ${optionName(option)} has a payload`);
    return { type, payload: length === 0 ? new Uint8Array() : yield { bytes: length } };
  }

  expectError(option: number, reply: Reply): void {
    if (reply.type >= nbd.REP_FLAG_ERROR) return;
    throw this.protocol(`it answers ${optionName(option)} with a reply of type ${reply.type}`);
  }

  /** Errors after which no other option helps. */
  refuseIfFinal(reply: Reply): void {
    if (reply.type === nbd.REP_ERR_TLS_REQD) {
      throw this.refusal("ERR_NBD_TLS", "the server wants TLS; expected the scheme nbds or nbds+unix", reply);
    }
    if (reply.type === nbd.REP_ERR_SHUTDOWN) throw this.refusal("ERR_NBD_REFUSED", "the server refuses", reply);
  }

  refusal(code: NbdErrorCode, what: string, reply: Reply): NbdError {
    const text = plainText(reply.payload.subarray(0, ERROR_TEXT_BYTES_MAX));
    const reason = ERROR_NAMES[reply.type] ?? `error ${reply.type - nbd.REP_FLAG_ERROR}`;
    return this.error(code, `${what}: ${reason}${text === "" ? "" : ` ("${text}")`}`, reply.type);
  }

  protocol(what: string): NbdError {
    return this.error("ERR_NBD_PROTOCOL", `the server breaks the protocol: ${what}`);
  }

  error(code: NbdErrorCode, message: string, reply?: number): NbdError {
    return new NbdError(code, `NBD handshake: ${message}`, { reply });
  }

  send(bytes: Uint8Array): void {
    this.actions.push({ kind: "send", bytes });
  }
}

function optionName(option: number): string {
  return OPTION_NAMES[option] ?? String(option);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
