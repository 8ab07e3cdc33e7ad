/**
 * Options as this client sends them, and the payloads of their replies as it reads them. Reading never goes past a
 * payload; what does not fit its own lengths is `undefined`, and the handshake ends there.
 */
import {
  INFO_BLOCK_SIZE,
  INFO_DESCRIPTION,
  INFO_EXPORT,
  INFO_NAME,
  OPTION_MAGIC,
  STRING_BYTES_MAX,
} from "../protocol/constants.ts";

/** magic u64, option u32, length u32 */
const OPTION_HEADER_BYTES = 16;

export function encodeOption(option: number, payload: Uint8Array = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(OPTION_HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, OPTION_MAGIC);
  view.setUint32(8, option);
  view.setUint32(12, payload.length);
  bytes.set(payload, OPTION_HEADER_BYTES);
  return bytes;
}

/** Of INFO and GO: name length u32, name, count u16, and a u16 for each piece of information that is asked for. */
export function encodeInfoRequest(name: string, wanted: readonly number[]): Uint8Array {
  const text = Buffer.from(name);
  const bytes = new Uint8Array(4 + text.length + 2 + 2 * wanted.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, text.length);
  bytes.set(text, 4);
  view.setUint16(4 + text.length, wanted.length);
  wanted.forEach((type, index) => view.setUint16(4 + text.length + 2 + 2 * index, type));
  return bytes;
}

/** Of LIST_META_CONTEXT and SET_META_CONTEXT: name length u32, name, count u32, and length u32 and text of each query. */
export function encodeContextRequest(name: string, queries: readonly string[]): Uint8Array {
  const pieces: Uint8Array[] = [...lengthAndText(name), unsigned(queries.length)];
  for (const query of queries) pieces.push(...lengthAndText(query));
  return Buffer.concat(pieces);
}

function lengthAndText(text: string): [Uint8Array, Uint8Array] {
  const bytes = Buffer.from(text);
  return [unsigned(bytes.length), bytes];
}

function unsigned(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** A piece of information about an export, or one that we do not know. */
export type Information =
  | { readonly type: "export"; readonly length: bigint; readonly flags: number }
  | { readonly type: "name" | "description"; readonly text: string }
  | { readonly type: "block-size"; readonly minimum: number; readonly preferred: number; readonly maximum: number }
  | { readonly type: "unknown" };

export function decodeInformation(payload: Uint8Array): Information | undefined {
  if (payload.length < 2) return undefined;
  const view = viewOf(payload);
  switch (view.getUint16(0)) {
    case INFO_EXPORT:
      if (payload.length !== 12) return undefined;
      return { type: "export", length: view.getBigUint64(2), flags: view.getUint16(10) };
    case INFO_NAME:
      return information("name", payload.subarray(2));
    case INFO_DESCRIPTION:
      return information("description", payload.subarray(2));
    case INFO_BLOCK_SIZE:
      if (payload.length !== 14) return undefined;
      return {
        type: "block-size",
        minimum: view.getUint32(2),
        preferred: view.getUint32(6),
        maximum: view.getUint32(10),
      };
    default:
      return { type: "unknown" };
  }
}

function information(type: "name" | "description", bytes: Uint8Array): Information | undefined {
  const text = decodeText(bytes);
  return text === undefined ? undefined : { type, text };
}

/** An export of a list: name length u32, name, and what is left is its description. */
export function decodeListed(payload: Uint8Array): { name: string; description: string } | undefined {
  if (payload.length < 4) return undefined;
  const nameLength = viewOf(payload).getUint32(0);
  if (nameLength > payload.length - 4) return undefined;
  const name = decodeText(payload.subarray(4, 4 + nameLength));
  const description = decodeText(payload.subarray(4 + nameLength));
  return name === undefined || description === undefined ? undefined : { name, description };
}

export function decodeContext(payload: Uint8Array): { id: number; name: string } | undefined {
  if (payload.length < 5) return undefined;
  const name = decodeText(payload.subarray(4));
  return name === undefined ? undefined : { id: viewOf(payload).getUint32(0), name };
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A name must come back to the server as it was: what is no UTF-8, or too long, is none. */
function decodeText(bytes: Uint8Array): string | undefined {
  if (bytes.length > STRING_BYTES_MAX || bytes.includes(0)) return undefined;
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
