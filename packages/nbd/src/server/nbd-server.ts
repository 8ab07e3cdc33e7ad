/**
 * An NBD server: exports that come and go, addresses that clients connect to, and the threads that serve them.
 *
 * It knows nothing of bitmaps' lives or of disks that are detached: whoever adds an export has taken what it shows, and gives
 * it back when the removal has resolved.
 */
import type { Engine } from "@heirloom/engine";
import {
  CONTEXT_ALLOCATION,
  CONTEXT_BITMAP,
  CONTEXT_DEPTH,
  FLAG_CAN_MULTI_CONN,
  FLAG_HAS_FLAGS,
  FLAG_READ_ONLY,
  FLAG_SEND_CACHE,
  FLAG_SEND_FAST_ZERO,
  FLAG_SEND_FLUSH,
  FLAG_SEND_FUA,
  FLAG_SEND_TRIM,
  FLAG_SEND_WRITE_ZEROES,
  PAYLOAD_BYTES_DEFAULT,
  STRING_BYTES_MAX,
} from "../protocol/constants.ts";
import type { PostedContext, PostedExport } from "../session/messages.ts";
import { SLAB_BYTES } from "../session/payload-memory.ts";
import type { TrafficCounts } from "../session/traffic.ts";
import type { ExportOffer } from "./export-offer.ts";
import type { BoundAddress, ListenAddress } from "./listener.ts";
import { NbdServerError } from "./nbd-server-error.ts";
import type { NewSession, TlsPeer } from "./negotiation.ts";
import { CONNECTIONS_MAX_DEFAULT, Reception, type Refused } from "./reception.ts";
import { type ServerTls, tlsStarter } from "./tls-starter.ts";
import { TunnelThread } from "../tls/tunnel.ts";
import { type ClosedConnection, SessionThreads } from "./session-threads.ts";

export interface NbdServerOptions {
  /** Required of every client, where it is given. Never "if the client wants it": whoever sits in between could say that it does not. */
  readonly tls?: ServerTls | undefined;
  /** Connections at once, those that still negotiate included; 100 by default. */
  readonly connectionsMax?: number | undefined;
  /** From the accept to the transmission, milliseconds; 10 s by default. */
  readonly handshakeTimeoutMs?: number | undefined;
  /** Threads that serve connections at most; a disk has one of its own while there are enough. 16 by default. */
  readonly threadsMax?: number | undefined;
  /**
   * Threads at most that do what would make those wait (reads of cold data, flushes); 64 by default. Where devices that hang
   * keep all of them, each export has two more of its own.
   */
  readonly helpersMax?: number | undefined;
  /** Bytes of payload that helpers work on, for all connections; 64 MiB by default, never touched before it is needed. */
  readonly payloadMemory?: number | undefined;
  readonly onEvent?: ((event: NbdServerEvent) => void) | undefined;
}

export type NbdServerEvent =
  | {
      readonly type: "connected";
      readonly connection: number;
      readonly export: string;
      readonly peer: string;
      readonly tls: TlsPeer | undefined;
    }
  | ({ readonly type: "disconnected"; readonly export: string; readonly peer: string } & Omit<
      ClosedConnection,
      "id"
    > & {
        readonly connection: number;
      })
  | ({ readonly type: "refused" } & Refused);

export interface NbdExportSpec {
  /** Up to 4096 bytes of UTF-8. "" is a name as well. */
  readonly name: string;
  /** For people; the same limit. */
  readonly description?: string | undefined;
  readonly source: PostedExport["source"];
  /** The same for exports that share a gate. */
  readonly disk: string;
  readonly writable: boolean;
  /** Bytes. */
  readonly length: number;
  /** Offsets and lengths of requests are multiples of it. */
  readonly alignment: number;
  /** Shown as contexts `qemu:dirty-bitmap:NAME`. */
  readonly bitmaps: ReadonlyArray<{
    readonly name: string;
    readonly bitmap: Extract<PostedContext, { kind: "bitmap" }>["bitmap"];
  }>;
  /** Shows the context `qemu:allocation-depth`. */
  readonly allocationDepth?: boolean | undefined;
}

interface Exported {
  readonly id: number;
  readonly offer: ExportOffer;
}

interface Leaving {
  /** Clients are cut off, whatever they have in flight. */
  hard: boolean;
  readonly name: string;
  readonly id: number;
  /** Until it is hard. */
  grace: NodeJS.Timeout | undefined;
  readonly gone: Promise<void>;
}

/** A removal, or a stop, waits so long for what is in flight before it is hard. */
const GRACE_MS = 5000;

export class NbdServer {
  readonly #threads: SessionThreads;
  readonly #tunnels = new TunnelThread();
  readonly #reception: Reception;
  readonly #exports = new Map<string, Exported>();
  /** Those that threads have not let go of. */
  readonly #leaving = new Set<Leaving>();
  readonly #sessions = new Map<
    number,
    { readonly name: string; readonly peer: string; readonly release: () => void }
  >();
  readonly #connectionsMax: number;
  readonly #onEvent: (event: NbdServerEvent) => void;
  #stopped = false;

  constructor(engine: Engine, options: NbdServerOptions = {}) {
    const { threadsMax = 16, helpersMax = 64, payloadMemory = PAYLOAD_MEMORY_DEFAULT } = options;
    const { connectionsMax = CONNECTIONS_MAX_DEFAULT } = options;
    if (payloadMemory < PAYLOAD_MEMORY_MIN) {
      const message = `NBD server: payloadMemory must be at least ${PAYLOAD_MEMORY_MIN} bytes, for one request of the longest kind; got ${payloadMemory}`;
      throw new NbdServerError("ERR_NBD_OPTION", message);
    }
    this.#onEvent = options.onEvent ?? (() => {});
    this.#connectionsMax = connectionsMax;
    const onClosed = (closed: ClosedConnection): void => this.#closed(closed);
    this.#threads = new SessionThreads(engine, { threadsMax, helpersMax, payloadMemory, connectionsMax }, onClosed);
    this.#reception = new Reception({
      directory: {
        list: () => [...this.#exports.values()].map(({ offer }) => offer),
        find: (name) => this.#exports.get(name)?.offer,
      },
      startTls: options.tls === undefined ? undefined : tlsStarter(options.tls, this.#tunnels),
      connectionsMax,
      handshakeTimeoutMs: options.handshakeTimeoutMs,
      onSession: (session, release) => this.#begin(session, release),
      onRefused: (refused) => this.#onEvent({ type: "refused", ...refused }),
    });
  }

  /** @throws ListenError */
  listen(address: ListenAddress): Promise<BoundAddress> {
    return this.#reception.listen(address);
  }
  get addresses(): readonly BoundAddress[] {
    return this.#reception.addresses;
  }
  /** Connections, those that still negotiate included. */
  get connections(): number {
    return this.#reception.connections;
  }
  /** Names, in the order in which they were added. */
  get exports(): readonly string[] {
    return [...this.#exports.keys()];
  }
  /** Clients of an export. */
  clientsOf(name: string): number {
    return this.#threads.connectionsOf(this.#exportOf(name).id);
  }
  /** Tells what went through an export since it was added, also when it is gone. */
  trafficOf(name: string): () => TrafficCounts {
    return this.#threads.trafficOf(this.#exportOf(name).id);
  }

  /** Whether it could be added now. @throws NbdServerError */
  check(spec: Pick<NbdExportSpec, "name" | "description">): void {
    if (this.#stopped) throw new NbdServerError("ERR_NBD_STOPPED", "add export: the server was stopped");
    checkText(spec.name, "export name");
    if (spec.description !== undefined) checkText(spec.description, "description");
    if (this.#exports.has(spec.name)) {
      throw new NbdServerError("ERR_NBD_EXPORT_EXISTS", `NBD server already has export named '${spec.name}'`);
    }
  }

  /** From now on clients find it. @throws NbdServerError */
  add(spec: NbdExportSpec): void {
    this.check(spec);
    const contexts: { name: string; posted: PostedContext }[] = [
      { name: CONTEXT_ALLOCATION, posted: { kind: "allocation" } },
      ...(spec.allocationDepth === true ? [{ name: CONTEXT_DEPTH, posted: { kind: "depth" } as const }] : []),
      ...spec.bitmaps.map(({ name, bitmap }) => ({
        name: CONTEXT_BITMAP + name,
        posted: { kind: "bitmap", bitmap } as const,
      })),
    ];
    const id = this.#threads.addExport({
      disk: spec.disk,
      source: spec.source,
      writable: spec.writable,
      length: spec.length,
      alignment: spec.alignment,
      payloadBytesMax: PAYLOAD_BYTES_DEFAULT,
      contexts: contexts.map(({ posted }) => posted),
    });
    const offer: ExportOffer = {
      name: spec.name,
      description: spec.description ?? "",
      length: spec.length,
      flags: flagsOf(spec.writable, this.#connectionsMax > 1),
      blockSize: {
        minimum: spec.alignment,
        preferred: Math.max(4096, spec.alignment),
        maximum: PAYLOAD_BYTES_DEFAULT,
      },
      contexts: contexts.map(({ name }) => name),
    };
    this.#exports.set(spec.name, { id, offer });
  }

  /**
   * Nobody finds it any more; its clients are ended: after what they have in flight was answered, or `hard`, at once.
   * Resolves when no thread uses what it showed; with a device that hangs, that is never.
   * @returns whether clients were answered all that they had in flight; false where it was hard, or became so
   */
  async remove(name: string, options: { readonly hard?: boolean } = {}): Promise<boolean> {
    const { id } = this.#exportOf(name);
    this.#exports.delete(name);
    const gone = this.#threads.removeExport(id, options.hard === true);
    const leaving: Leaving = { name, id, grace: undefined, gone, hard: options.hard === true };
    this.#leaving.add(leaving);
    if (!leaving.hard) leaving.grace = setTimeout(() => this.#cutOff(leaving), GRACE_MS);
    await gone;
    clearTimeout(leaving.grace);
    this.#leaving.delete(leaving);
    return !leaving.hard;
  }

  /** Exports of this name that are being removed softly: now it is hard. */
  cutOff(name: string): void {
    for (const leaving of this.#leaving) if (leaving.name === name) this.#cutOff(leaving);
  }

  /**
   * Ends everything: softly as `remove` does, or hard, which a soft stop that is under way becomes too. Resolves when all
   * threads have ended.
   */
  async stop(options: { readonly hard?: boolean } = {}): Promise<void> {
    this.#stopped = true;
    const closed = this.#reception.close();
    for (const name of this.exports) void this.remove(name, options);
    if (options.hard === true) for (const leaving of this.#leaving) this.#cutOff(leaving);
    await Promise.all([closed, ...[...this.#leaving].map(({ gone }) => gone)]);
    await this.#threads.close();
    await this.#tunnels.close();
  }

  #cutOff(leaving: Leaving): void {
    if (leaving.hard) return;
    leaving.hard = true;
    clearTimeout(leaving.grace);
    void this.#threads.removeExport(leaving.id, true);
  }

  /** Session threads and helpers that exist. */
  get threads(): number {
    return this.#threads.threads;
  }

  #begin(session: NewSession, release: () => void): void {
    const { offer, structured, extended, contexts } = session.negotiated;
    const exported = this.#exports.get(offer.name);
    if (exported?.offer !== offer) throw new NbdServerError("ERR_NBD_EXPORT", `export '${offer.name}' is gone`);
    const id = this.#threads.connect(exported.id, {
      fd: session.fd,
      unread: session.unread,
      structured,
      extended,
      contexts: contexts.map((context) => ({ id: context.id, index: offer.contexts.indexOf(context.name) })),
    });
    this.#sessions.set(id, { name: offer.name, peer: session.peer, release });
    this.#onEvent({ type: "connected", connection: id, export: offer.name, peer: session.peer, tls: session.tls });
  }

  #closed({ id, reason, requests }: ClosedConnection): void {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    this.#sessions.delete(id);
    session.release();
    const { name, peer } = session;
    this.#onEvent({ type: "disconnected", connection: id, export: name, peer, reason, requests });
  }

  #exportOf(name: string): Exported {
    const exported = this.#exports.get(name);
    if (exported !== undefined) return exported;
    throw new NbdServerError("ERR_NBD_EXPORT", `NBD server has no export named '${name}'`);
  }
}

const PAYLOAD_MEMORY_DEFAULT = 64 * 1024 * 1024;
/** A reply of the longest kind, with room for its header. */
const PAYLOAD_MEMORY_MIN = PAYLOAD_BYTES_DEFAULT + SLAB_BYTES;

function checkText(text: string, what: string): void {
  const bytes = Buffer.byteLength(text);
  if (bytes <= STRING_BYTES_MAX && !text.includes("\0")) return;
  const shown = text.length > 80 ? `${text.slice(0, 80)}...` : text;
  throw new NbdServerError("ERR_NBD_OPTION", `${what} '${shown}' too long, or with a NUL in it`);
}

function flagsOf(writable: boolean, multiConn: boolean): number {
  const always = FLAG_HAS_FLAGS | FLAG_SEND_FLUSH | FLAG_SEND_FUA | FLAG_SEND_CACHE;
  const changes = writable ? FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES | FLAG_SEND_FAST_ZERO : FLAG_READ_ONLY;
  return always | changes | (multiConn ? FLAG_CAN_MULTI_CONN : 0);
}
