/**
 * Pull backup: copies from an export what its dirty bitmap says, or what is allocated, or everything.
 *
 * - Block status is asked just ahead of the copy, and never past what is being copied, so that memory stays small however
 *   large the disk is.
 * - What reads as zeroes is not read, and told to the target as zeroes; data that turns out to be zero as well.
 * - A range that is dirty is copied whole, also where it is a hole now: it was data at the last backup, perhaps.
 * - The first error ends it: nothing is retried here but what the client's `reconnectDelayMs` covers, since only the caller
 *   knows what a target that is half written is worth. Nothing runs any more when it rejects.
 *
 * Whether the source stands still meanwhile is the server's business: export a point in time.
 */
import { isZero } from "@heirloom/block";
import { CONTEXT_ALLOCATION, CONTEXT_BITMAP, STATE_DIRTY, STATE_HOLE, STATE_ZERO } from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import type { NbdUri } from "../protocol/uri.ts";
import { NbdClient, type NbdClientOptions, type NbdExtent } from "./nbd-client.ts";

/** Where a backup goes. An `NbdClient` is one; calls overlap, and a buffer is the sink's until its promise settles. */
export interface PullSink {
  write(buffer: Uint8Array, offset: number): Promise<void>;
  writeZeroes(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
}

export interface PullOptions extends Omit<NbdClientOptions, "contexts"> {
  readonly source: string | NbdUri;
  readonly target: PullSink;
  /** Name of a dirty bitmap as QEMU's and our exports have it, or the full name of any context whose bit 0 says dirty. */
  readonly bitmap?: string;
  /** Without a bitmap: leave out what takes no room. Only for a target that is zeroes, or that has the holes' content. */
  readonly allocatedOnly?: boolean;
  /** Largest piece that is read at once. */
  readonly pieceBytes?: number;
  /** Pieces that are on their way at once, over all connections. Each has a buffer. */
  readonly piecesInFlightMax?: number;
  /** After each piece. */
  readonly onProgress?: (progress: PullProgress) => void;
}

export interface PullProgress {
  /** Bytes of the disk that were looked at, and its length. */
  readonly offset: number;
  readonly length: number;
  readonly bytesCopied: number;
  readonly bytesZeroed: number;
}

export interface PullResult {
  /** Length of the disk. */
  readonly length: number;
  /** Bytes that were written to the target as data, and as zeroes. */
  readonly bytesCopied: number;
  readonly bytesZeroed: number;
  /** What the target now has, in order. */
  readonly extents: readonly { readonly offset: number; readonly length: number }[];
}

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
}

/**
 * @throws NbdError, what the target threw, or the signal's reason
 * @example
 * await using target = await NbdClient.connect("nbd+unix:///?socket=/run/target.sock");
 * await pull({ source: "nbd+unix:///disk?socket=/run/nbd.sock", bitmap: "daily", target, connections: 4 });
 */
export async function pull(options: PullOptions): Promise<PullResult> {
  const { source, target, signal } = options;
  const bitmap = options.bitmap === undefined ? undefined : bitmapContext(options.bitmap);
  const contexts = bitmap === undefined ? [CONTEXT_ALLOCATION] : [CONTEXT_ALLOCATION, bitmap];
  const client = await NbdClient.connect(source, { ...options, contexts });
  try {
    needContext(client, bitmap, options.allocatedOnly === true);
    const result = await new Pull(client, bitmap, options).run();
    await target.flush();
    signal?.throwIfAborted();
    return result;
  } finally {
    if (signal?.aborted === true) client.destroy();
    await client.close();
  }
}

/**
 * What a dirty bitmap of an export says, in order.
 *
 * @param bitmap as for `pull`; the client must have been connected with its context (`bitmapContext`)
 */
export async function* dirtyExtents(
  client: NbdClient,
  bitmap: string,
): AsyncGenerator<{ readonly offset: number; readonly length: number }, void, void> {
  for await (const { offset, length, flags } of client.blockStatus(bitmapContext(bitmap))) {
    if (flags % 2 === STATE_DIRTY) yield { offset, length };
  }
}

/** Full name of a bitmap's context: that of QEMU's and our exports, where the name is not one in full. */
export function bitmapContext(name: string): string {
  return name.includes(":") ? name : CONTEXT_BITMAP + name;
}

function needContext(client: NbdClient, bitmap: string | undefined, allocatedOnly: boolean): void {
  const needed = bitmap ?? (allocatedOnly ? CONTEXT_ALLOCATION : undefined);
  if (needed === undefined || client.contexts.includes(needed)) return;
  const message = `pull: the export '${client.export.name}' has no context '${needed}'; copying without it would be a guess`;
  throw new NbdError("ERR_NBD_UNSUPPORTED", message);
}

class Pull {
  readonly #client: NbdClient;
  readonly #bitmap: string | undefined;
  readonly #options: PullOptions;
  readonly #pieceBytes: number;
  /** Ends what runs: the caller's signal, or the first error. */
  readonly #ending: AbortController = new AbortController();
  readonly #extents: { offset: number; length: number }[] = [];
  #bytesCopied = 0;
  #bytesZeroed = 0;
  #looked = 0;

  constructor(client: NbdClient, bitmap: string | undefined, options: PullOptions) {
    this.#client = client;
    this.#bitmap = bitmap;
    this.#options = options;
    const { minimum } = client.export.blockSize;
    const wanted = options.pieceBytes ?? 1024 * 1024;
    this.#pieceBytes = Math.max(minimum, wanted - (wanted % minimum));
  }

  async run(): Promise<PullResult> {
    const { signal } = this.#options;
    const abort = (): void => this.#ending.abort(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted === true) abort();
    try {
      const pieces = this.#pieces();
      const workers = Array.from({ length: this.#options.piecesInFlightMax ?? 8 }, () => this.#work(pieces));
      const ends = await Promise.allSettled(workers);
      if (this.#ending.signal.aborted) throw this.#ending.signal.reason;
      for (const end of ends) if (end.status === "rejected") throw end.reason;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    return {
      length: this.#client.length,
      bytesCopied: this.#bytesCopied,
      bytesZeroed: this.#bytesZeroed,
      extents: this.#extents,
    };
  }

  /** Takes pieces until there are none. An async generator serves its callers in order. */
  async #work(pieces: AsyncGenerator<Piece, void, void>): Promise<void> {
    let buffer: Uint8Array | undefined;
    try {
      for (;;) {
        const next = await pieces.next();
        if (next.done === true) return;
        buffer = await this.#copy(next.value, buffer);
        this.#ending.signal.throwIfAborted();
        this.#report();
      }
    } catch (error) {
      // The first one is what the caller hears; the others end because of it.
      this.#ending.abort(error);
      throw error;
    }
  }

  async #copy({ offset, length, zero }: Piece, buffer: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    const { target } = this.#options;
    if (zero) {
      await target.writeZeroes(offset, length);
      this.#bytesZeroed += length;
      return buffer;
    }
    const own = buffer ?? new Uint8Array(this.#pieceBytes);
    const part = own.subarray(0, length);
    await this.#client.read(part, offset, { signal: this.#ending.signal });
    if (isZero(part)) {
      await target.writeZeroes(offset, length);
      this.#bytesZeroed += length;
    } else {
      await target.write(part, offset);
      this.#bytesCopied += length;
    }
    return own;
  }

  #report(): void {
    this.#options.onProgress?.({
      offset: this.#looked,
      length: this.#client.length,
      bytesCopied: this.#bytesCopied,
      bytesZeroed: this.#bytesZeroed,
    });
  }

  /** What is to be copied, in order, in pieces of blocks. */
  async *#pieces(): AsyncGenerator<Piece, void, void> {
    const { minimum } = this.#client.export.blockSize;
    // Up to here everything is in a piece or left out: extents that share a block share a piece.
    let done = 0;
    for await (const { offset, length, zero } of this.#wanted()) {
      const start = Math.max(done, offset - (offset % minimum));
      const end = Math.min(this.#client.length, Math.ceil((offset + length) / minimum) * minimum);
      const whole = start === offset && end === offset + length;
      if (end <= start) continue;
      this.#note(start, end);
      done = end;
      // Zeroes cost the same however many they are.
      if (zero && whole) yield { offset: start, length: end - start, zero };
      else {
        for (let at = start; at < end; at += this.#pieceBytes) {
          this.#looked = at;
          yield { offset: at, length: Math.min(this.#pieceBytes, end - at), zero: false };
        }
      }
      this.#looked = end;
    }
    this.#looked = this.#client.length;
  }

  /** Extents that are wanted, as the server gives them. */
  async *#wanted(): AsyncGenerator<Piece, void, void> {
    const { length, contexts } = this.#client;
    if (contexts.length === 0) {
      if (length > 0) yield { offset: 0, length, zero: false };
      return;
    }
    for (let at = 0; at < length;) {
      const answer = await this.#client.statusOf(at, length - at, { signal: this.#ending.signal });
      const allocation = answer.get(CONTEXT_ALLOCATION);
      const dirty = this.#bitmap === undefined ? undefined : answer.get(this.#bitmap);
      const end = Math.min(...[...answer.values()].map((extents) => endOf(extents)));
      yield* this.#select(at, end, allocation, dirty);
      at = end;
    }
  }

  /** Both contexts at once, from border to border. */
  *#select(
    start: number,
    end: number,
    allocation: readonly NbdExtent[] | undefined,
    dirty: readonly NbdExtent[] | undefined,
  ): Generator<Piece, void, void> {
    let a = 0;
    let d = 0;
    for (let at = start; at < end;) {
      while (allocation !== undefined && endAt(allocation, a) <= at) a++;
      while (dirty !== undefined && endAt(dirty, d) <= at) d++;
      const flags = allocation?.[a].flags ?? 0;
      const next = Math.min(
        end,
        allocation === undefined ? end : endAt(allocation, a),
        dirty === undefined ? end : endAt(dirty, d),
      );
      const isWanted =
        dirty === undefined
          ? this.#options.allocatedOnly !== true || (flags & STATE_HOLE) === 0
          : dirty[d].flags % 2 === STATE_DIRTY;
      if (isWanted) yield { offset: at, length: next - at, zero: (flags & STATE_ZERO) !== 0 };
      at = next;
    }
  }

  #note(start: number, end: number): void {
    const last = this.#extents.at(-1);
    if (last !== undefined && last.offset + last.length === start) last.length += end - start;
    else this.#extents.push({ offset: start, length: end - start });
  }
}

function endAt(extents: readonly NbdExtent[], index: number): number {
  return extents[index].offset + extents[index].length;
}

function endOf(extents: readonly NbdExtent[]): number {
  return endAt(extents, extents.length - 1);
}
