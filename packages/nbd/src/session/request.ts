/**
 * A request's header, read off the wire into fields that are used again for the next one: no allocation a request.
 * Cookies and offsets are two words that go back as they came.
 */
import { EXTENDED_REQUEST_BYTES, EXTENDED_REQUEST_MAGIC, REQUEST_BYTES, REQUEST_MAGIC } from "../protocol/constants.ts";

export class Request {
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** Past 2^53 it is not exact, and past the end of every export; extended replies repeat the words. */
  offset = 0;
  offsetHigh = 0;
  offsetLow = 0;
  length = 0;

  /** @returns false for another magic */
  read(view: DataView, at: number, extended: boolean): boolean {
    if (view.getUint32(at) !== (extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC)) return false;
    this.flags = view.getUint16(at + 4);
    this.type = view.getUint16(at + 6);
    this.cookieHigh = view.getUint32(at + 8);
    this.cookieLow = view.getUint32(at + 12);
    this.offsetHigh = view.getUint32(at + 16);
    this.offsetLow = view.getUint32(at + 20);
    this.offset = this.offsetHigh * 2 ** 32 + this.offsetLow;
    this.length = extended ? view.getUint32(at + 24) * 2 ** 32 + view.getUint32(at + 28) : view.getUint32(at + 24);
    return true;
  }
}

export function requestBytes(extended: boolean): number {
  return extended ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
}

const commands = ["read", "write", "disc", "flush", "trim", "cache", "write zeroes", "block status"] as const;

/** What a command is called in messages; undefined for one that is not known. */
export function commandName(type: number): string | undefined {
  return commands[type];
}
