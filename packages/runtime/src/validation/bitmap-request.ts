/**
 * Requests about bitmaps (reference 1.1, 1.2, 1.5), checked in QEMU's order and with its texts. A check of the bitmap's
 * state is the bitmap machine's; here is what can be said without it.
 */
import { accepted, refusal, refused, type Checked, type Refusal } from "../errors.ts";
import { refuseBitmapOperation } from "./bitmap-operation.ts";
import {
  bitmapNotFound,
  deviceNotFound,
  invalidType,
  nodeNotFound,
  type BitmapFacts,
  type Facts,
  type NodeFacts,
} from "./facts.ts";

/** Bytes of UTF-8. */
export const bitmapNameLengthMax = 1023;
export const granularityMin = 512;
/** The largest power of two in a uint32. */
export const granularityMax: number = 2 ** 31;
/** Bits that a bitmap can have. */
export const bitmapBitsMax: number = 2 ** 37;

export interface BitmapAddRequest {
  readonly node: string;
  readonly name: string;
  /** Bytes; default: the node's cluster size within [4096, 65536]. */
  readonly granularity?: number;
  readonly persistent?: boolean;
  readonly disabled?: boolean;
}

export interface NormalizedBitmap {
  readonly node: string;
  readonly name: string;
  readonly granularity: number;
  readonly persistent: boolean;
  readonly recording: boolean;
  /** Bytes of the disk that it describes. */
  readonly size: number;
}

/** The granularity where none was asked for. `clusterSize` 0: unknown. */
export function defaultGranularity(clusterSize: number): number {
  if (clusterSize === 0) return 65536;
  return Math.min(65536, Math.max(4096, clusterSize));
}

export function isGranularity(bytes: number): boolean {
  return (
    Number.isInteger(bytes) && bytes >= granularityMin && bytes <= granularityMax && Number.isInteger(Math.log2(bytes))
  );
}

/** The smallest granularity with which `size` bytes fit a bitmap; above `granularityMax` none does. */
export function smallestGranularity(size: number): number {
  let granularity = granularityMin;
  while (Math.ceil(size / granularity) > bitmapBitsMax) granularity *= 2;
  return granularity;
}

function refuseGranularity(granularity: number): Refusal | undefined {
  if (isGranularity(granularity)) return undefined;
  const desc =
    granularity > granularityMax
      ? `Granularity must be a power of 2 and at most ${granularityMax}`
      : "Granularity must be power of 2 and at least 512";
  return refusal("ERR_BITMAP_GRANULARITY", desc, { granularity });
}

/** A name is stored and sent as UTF-8: NUL ends it in QEMU, and half a surrogate pair has no bytes. */
function refuseName(name: string): Refusal | undefined {
  const fields = { bitmap: name };
  if (name === "") return refusal("ERR_BITMAP_NAME", "Bitmap name cannot be empty", fields);
  if (name.includes("\0")) return refusal("ERR_BITMAP_NAME", "Bitmap name cannot contain a NUL character", fields);
  if (/\p{Surrogate}/u.test(name)) {
    return refusal("ERR_BITMAP_NAME", "Bitmap name must be text that UTF-8 can encode", fields);
  }
  return undefined;
}

/** What `storeRefusal` says of a driver that stores no bitmaps at all. */
export const storesNone = "Operation not supported";

function refuseStoring(node: NodeFacts, name: string, granularity: number): Refusal | undefined {
  const fields = { node: node.name, bitmap: name };
  if (node.storeRefusal(name, granularity) === storesNone) {
    return refusal("ERR_BITMAP_NOT_STORABLE", `Can't store persistent bitmaps to ${node.name}: ${storesNone}`, fields);
  }
  const reason =
    Buffer.byteLength(name) > bitmapNameLengthMax
      ? `Name length exceeds maximum (${bitmapNameLengthMax} characters)`
      : node.storeRefusal(name, granularity);
  if (reason === undefined) return undefined;
  return refusal(
    "ERR_BITMAP_NOT_STORABLE",
    `Can't make bitmap '${name}' persistent in '${node.name}': ${reason}`,
    fields,
  );
}

function refuseTypes(request: BitmapAddRequest): Refusal | undefined {
  if (typeof request.node !== "string") return invalidType("node", "string");
  if (typeof request.name !== "string") return invalidType("name", "string");
  if (request.granularity !== undefined && typeof request.granularity !== "number") {
    return invalidType("granularity", "integer");
  }
  if (typeof (request.persistent ?? false) !== "boolean") return invalidType("persistent", "boolean");
  if (typeof (request.disabled ?? false) !== "boolean") return invalidType("disabled", "boolean");
  return undefined;
}

/** `block-dirty-bitmap-add`. */
export function checkBitmapAdd(request: BitmapAddRequest, facts: Pick<Facts, "node">): Checked<NormalizedBitmap> {
  const badType = refuseTypes(request);
  if (badType !== undefined) return refused(badType);
  const { name, persistent = false, disabled = false } = request;
  const node = facts.node(request.node);
  if (node === undefined) return refused(deviceNotFound(request.node));
  const granularity = request.granularity ?? defaultGranularity(node.clusterSize);
  const reason = refuseName(name) ?? refuseGranularity(granularity) ?? refuseNew(node, name, granularity, persistent);
  if (reason !== undefined) return refused(reason);
  return accepted({ node: node.name, name, granularity, persistent, recording: !disabled, size: node.length });
}

function refuseNew(node: NodeFacts, name: string, granularity: number, persistent: boolean): Refusal | undefined {
  const fields = { node: node.name, bitmap: name };
  // Whether it could be stored comes first, as in QEMU.
  const storing = persistent ? refuseStoring(node, name, granularity) : undefined;
  if (storing !== undefined) return storing;
  if (node.bitmap(name) !== undefined) return refusal("ERR_BITMAP_EXISTS", `Bitmap already exists: ${name}`, fields);
  if (Buffer.byteLength(name) > bitmapNameLengthMax) {
    return refusal("ERR_BITMAP_NAME", `Bitmap name too long: ${name}`, fields);
  }
  if (Math.ceil(node.length / granularity) > bitmapBitsMax) {
    const fits = smallestGranularity(node.length);
    return refusal(
      "ERR_BITMAP_TOO_LARGE",
      `Granularity ${granularity} is too fine for ${node.length} bytes: use at least ${fits}`,
      { ...fields, granularity, fits },
    );
  }
  return undefined;
}

/** The bitmap that a command names. */
export function findBitmap(facts: Pick<Facts, "node">, node: string, name: string): Checked<BitmapFacts> {
  const found = facts.node(node);
  if (found === undefined) return refused(nodeNotFound(node));
  const bitmap = found.bitmap(name);
  return bitmap === undefined ? refused(bitmapNotFound(found.name, name)) : accepted(bitmap);
}

/** A source of a merge: a bitmap of the target's node by name, or any node's. */
export type MergeSource = string | { readonly node: string; readonly name: string };

export interface MergeRequest {
  readonly node: string;
  readonly target: string;
  readonly sources: readonly MergeSource[];
}

export interface NormalizedMerge {
  readonly node: string;
  readonly target: string;
  readonly sources: ReadonlyArray<{ readonly node: string; readonly name: string }>;
}

/**
 * `block-dirty-bitmap-merge`: source by source that it exists, that both can be used, and that they have one size: of
 * several faults the one is told that QEMU tells. No sources is a success that does nothing.
 */
export function checkMerge(request: MergeRequest, facts: Pick<Facts, "node">): Checked<NormalizedMerge> {
  const target = findBitmap(facts, request.node, request.target);
  if (!target.ok) return target;
  const sources: { readonly node: string; readonly name: string }[] = [];
  for (const given of request.sources) {
    const source = typeof given === "string" ? { node: request.node, name: given } : given;
    const found = findBitmap(facts, source.node, source.name);
    if (!found.ok) return found;
    const unusable =
      refuseBitmapOperation(target.value.name, target.value, "merge-target") ??
      refuseBitmapOperation(found.value.name, found.value, "merge-source");
    if (unusable !== undefined) return refused(unusable);
    if (found.value.size !== target.value.size) {
      return refused(refuseSizes(target.value, found.value));
    }
    sources.push({ node: facts.node(source.node)?.name ?? source.node, name: source.name });
  }
  return accepted({ node: facts.node(request.node)?.name ?? request.node, target: request.target, sources });
}

function refuseSizes(target: BitmapFacts, source: BitmapFacts): Refusal {
  return refusal(
    "ERR_BITMAP_SIZES",
    `Bitmaps are of different sizes (destination size is ${target.size}, source size is ${source.size}) and can't be merged`,
    { bitmap: target.name, source: source.name },
  );
}
