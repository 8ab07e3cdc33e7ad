/**
 * Serving disks over NBD: any hypervisor that speaks it can put its disk here, and backup programs can read a point in
 * time while the guest goes on.
 *
 * @example
 * const server = await runtime.serveNbd({ listen: [{ path: "/run/heirloom.sock" }] });
 * const exported = await server.add({ disk, writable: true, bitmaps: ["daily"] });
 * exported.uris; // ["nbd+unix:///disk0?socket=/run/heirloom.sock"]
 */
import { resolve } from "node:path";
import {
  type BoundAddress,
  formatNbdUri,
  type ListenAddress,
  type NbdAddress,
  type NbdExportSpec,
  NbdServer,
  type NbdServerEvent,
  type NbdServerOptions,
  type NbdUri,
} from "@heirloom/nbd";
import type { BitmapState } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { Disk } from "./disk.ts";
import type { BitmapSource } from "./disk-bitmaps.ts";
import { DiskExport, releaseBitmaps } from "./disk-export.ts";
import type { DiskState } from "./disk-state.ts";
import { HeirloomError, refusal, RefusalError } from "./errors.ts";
import type { EventStream } from "./event-stream.ts";
import { findBitmap } from "./validation/bitmap-request.ts";
import type { View } from "./view.ts";
import { factsOf } from "./world.ts";

export interface ServeOptions extends Omit<NbdServerOptions, "onEvent"> {
  /** Where clients connect; more can be added later. */
  readonly listen?: readonly ListenAddress[];
}

export type ExportOptions = {
  /** What clients ask for; "" is a name as well. By default the disk's name. */
  readonly name?: string;
  /** For people. */
  readonly description?: string;
  /** Identifies it here; by default the name, or `export0`, ... where that is taken. */
  readonly id?: string;
  /** Shows the context `qemu:allocation-depth`. */
  readonly allocationDepth?: boolean;
} & (
  | {
      readonly disk: Disk | string;
      /** Clients are guests of the disk; false by default. */
      readonly writable?: boolean;
      /**
       * Shown as contexts `qemu:dirty-bitmap:NAME`; busy until the export is removed. They go on recording. One of another
       * disk of the same length is meant to say something of this one, whatever it is doing: it is not asked whether it
       * records.
       */
      readonly bitmaps?: readonly BitmapSource[];
    }
  /** A point in time, read-only, of which all can be read (`all: true`); its bitmap is its dirty context. */
  | { readonly view: View }
);

export class DiskServer {
  readonly #coordinator: Coordinator;
  readonly #events: EventStream;
  readonly #server: NbdServer;
  readonly #exports = new Map<string, DiskExport>();
  /** Which export a connection has open. */
  readonly #exportOf = new Map<number, DiskExport>();
  readonly #onClosed: () => void;
  /** URIs say that there is TLS; which credentials to show is the client's to know. */
  readonly #uriTls: Pick<NbdUri, "tls">;
  #nextExport = 0;
  #closing: Promise<boolean> | undefined;

  /** @internal Use `runtime.serveNbd`. */
  constructor(coordinator: Coordinator, events: EventStream, options: ServeOptions, onClosed: () => void) {
    this.#coordinator = coordinator;
    this.#events = events;
    this.#onClosed = onClosed;
    this.#uriTls = options.tls === undefined ? {} : { tls: {} };
    const { listen: _, ...serverOptions } = options;
    this.#server = new NbdServer(coordinator.engine, {
      ...serverOptions,
      onEvent: (event) => this.#onEvent(event),
    });
  }

  /** Listens on one more address. @throws ListenError */
  listen(address: ListenAddress): Promise<BoundAddress> {
    return this.#server.listen(address);
  }
  get addresses(): readonly BoundAddress[] {
    return this.#server.addresses;
  }
  /** Connections, those that still negotiate included. */
  get connections(): number {
    return this.#server.connections;
  }
  get exports(): readonly DiskExport[] {
    return [...this.#exports.values()];
  }

  /** From now on clients find it. @throws RefusalError, NbdServerError; then nothing has changed */
  async add(options: ExportOptions): Promise<DiskExport> {
    if (this.#closing !== undefined) throw new HeirloomError("ERR_SERVER_CLOSED", "export", "the server is closed");
    return "view" in options ? this.#addView(options) : this.#addDisk(options);
  }

  /**
   * Ends it: clients are answered what they have in flight, and bitmaps are free again. With `force` clients are cut off.
   * Where a device hangs, it waits for a bounded time, and what hangs is left behind. With `force`, a close that is under way
   * is hastened.
   * @returns whether clients were answered all that they had in flight
   */
  close(options: { readonly force?: boolean } = {}): Promise<boolean> {
    if (this.#closing !== undefined && options.force === true) void this.#server.stop({ hard: true });
    this.#closing ??= this.#close(options.force === true);
    return this.#closing;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(force: boolean): Promise<boolean> {
    const ends = this.exports.map((exported) => exported.end(force ? "hard" : "soft"));
    const stopped = Promise.allSettled(ends).then(async (answers) => {
      await this.#server.stop({ hard: force });
      return answers.every((answer) => answer.status === "fulfilled" && answer.value);
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((done) => {
      timer = setTimeout(
        () => {
          void this.#server.stop({ hard: true }); // it listens no more, whatever hangs
          done(false);
        },
        force ? forcedCloseMs : closeMs,
      );
    });
    const answered = await Promise.race([stopped, late]);
    clearTimeout(timer);
    this.#onClosed();
    return answered;
  }

  async #addDisk(options: Extract<ExportOptions, { disk: unknown }>): Promise<DiskExport> {
    const coordinator = this.#coordinator;
    const disk = coordinator.diskOf(options.disk, "export");
    const { writable = false, name = disk.name } = options;
    const id = this.#idFor(options.id, name);
    const wanted = this.#bitmapsOf(disk, options.bitmaps ?? []);
    const others = new Set(wanted.map((one) => one.disk).filter((one) => one !== disk));
    const { engine } = coordinator;
    const draft = coordinator.draft(coordinator.nextCommand(), "export");
    let exported: DiskExport | undefined;
    let unpublished: { readonly bitmaps: readonly BitmapState[]; readonly error: unknown } | undefined;
    const user = { kind: "export", id } as const;
    const added = engine.transitions.run({
      name: "export",
      stacks: [...new Set([disk, ...others].map((one) => one.layer.stack))],
      deadlineMs: coordinator.freezeDeadlineMs,
      prepare: () => {
        for (const one of [disk, ...others]) coordinator.refuseClosing(one, true, "export");
        this.#refuseExport(id, name, options.description);
        if (writable && disk.node.readOnly) {
          const desc = "Cannot export read-only node as writable";
          throw new RefusalError("export", refusal("ERR_NODE_READ_ONLY", desc, { node: disk.name }));
        }
        const bitmaps = wanted.map((one) => this.#takeBitmap(draft, disk, one, writable, user));
        return {
          tables: draft.tables(),
          committed: () => {
            draft.commit();
            const shown = bitmaps.map((one) => ({ name: one.name, bitmap: one.memory.bits.bitmap.handle }));
            const spec = this.#spec(disk, name, options, { disk: engine.postedDisk(disk.layer) }, shown, writable);
            const held = bitmaps.map((one) => one.memory.bits);
            try {
              this.#refuseExport(id, name, options.description); // the gate may have been held for long
              exported = this.#publish(disk, id, disk.name, spec, bitmaps, held, others);
            } catch (error) {
              unpublished = { bitmaps, error };
            }
          },
          abandoned: () => draft.abandon(),
        };
      },
    });
    await added.catch((error: unknown) => {
      draft.abandon();
      throw coordinator.asRefusal(error, "export");
    });
    if (unpublished !== undefined) {
      await releaseBitmaps(coordinator, [disk, ...others], unpublished.bitmaps);
      throw unpublished.error;
    }
    if (exported === undefined) throw new HeirloomError("ERR_INVARIANT", "export", "a transition without its commit");
    return exported;
  }

  /** Each once, in the order in which they came. */
  #bitmapsOf(disk: DiskState, sources: readonly BitmapSource[]): WantedBitmap[] {
    const wanted = new Map<string, WantedBitmap>();
    for (const source of sources) {
      const own = typeof source === "string";
      const of = own ? disk : this.#coordinator.diskOf(source.disk, "export");
      const name = own ? source : source.name;
      const key = `${of.name}/${name}`;
      if (!wanted.has(key)) wanted.set(key, { disk: of, name, own });
    }
    return [...wanted.values()];
  }

  #takeBitmap(
    draft: ReturnType<Coordinator["draft"]>,
    disk: DiskState,
    wanted: WantedBitmap,
    writable: boolean,
    user: { readonly kind: "export"; readonly id: string },
  ): BitmapState {
    const { name, own } = wanted;
    const found = findBitmap(factsOf(this.#coordinator.world, draft, [], draft.command), wanted.disk.name, name);
    const bitmap = draft.bitmap(wanted.disk, name);
    if (!found.ok || bitmap === undefined) {
      const fields = { node: wanted.disk.name, bitmap: name };
      const desc = own ? `Bitmap '${name}' is not found` : `Dirty bitmap '${name}' not found`;
      throw new RefusalError("export", refusal("ERR_BITMAP_NOT_FOUND", desc, fields));
    }
    if (found.value.size !== disk.layer.table.length) {
      const desc = `Bitmap '${name}' describes ${found.value.size} bytes, and disk '${disk.name}' has ${disk.layer.table.length}`;
      throw new RefusalError("export", refusal("ERR_BITMAP_SIZES", desc, { node: wanted.disk.name, bitmap: name }));
    }
    draft.plan(bitmap, { type: "take", user, command: draft.command });
    if (own && !writable && !disk.node.readOnly && draft.snapshotOf(bitmap).context.recording) {
      const desc = `Enabled bitmap '${name}' incompatible with readonly export`;
      throw new RefusalError("export", refusal("ERR_BITMAP_STATE", desc, { bitmap: name }));
    }
    return bitmap;
  }

  async #addView(options: Extract<ExportOptions, { view: unknown }>): Promise<DiskExport> {
    const { view } = options;
    const { disk, engineView, bitmap, all } = await view.standing("export");
    this.#coordinator.refuseClosing(disk, true, "export");
    if (!all) {
      const desc = `${view.id} is limited to what its bitmap says; expected a view with all: true`;
      throw new RefusalError("export", refusal("ERR_INVALID_ARGUMENT", desc, { view: view.id }));
    }
    const name = options.name ?? view.id;
    const id = this.#idFor(options.id, name);
    this.#refuseExport(id, name, options.description);
    view.refuseEnded("export");
    const bits = bitmap?.memory.bits;
    const shown = bitmap === undefined || bits === undefined ? [] : [{ name: bitmap.name, bitmap: bits.bitmap.handle }];
    const source = { view: this.#coordinator.engine.postedView(engineView) };
    const spec = this.#spec(disk, name, options, source, shown, false);
    const exported = this.#publish(disk, id, view.id, spec, [], bits === undefined ? [] : [bits]);
    view.exportedAs(exported);
    return exported;
  }

  #spec(
    disk: DiskState,
    name: string,
    options: Pick<ExportOptions, "description" | "allocationDepth">,
    source: NbdExportSpec["source"],
    bitmaps: NbdExportSpec["bitmaps"],
    writable: boolean,
  ): NbdExportSpec {
    const { arena, byteOffset } = disk.layer.stack.gateRegion;
    return {
      name,
      description: options.description,
      source,
      disk: `gate ${arena}:${byteOffset}`,
      writable,
      length: disk.layer.table.length,
      alignment: disk.node.alignment,
      bitmaps,
      allocationDepth: options.allocationDepth,
    };
  }

  /** From here on it is there. */
  #publish(
    disk: DiskState,
    id: string,
    of: string,
    spec: NbdExportSpec,
    taken: readonly BitmapState[],
    held: DiskExportHeld,
    others: ReadonlySet<DiskState> = new Set(),
  ): DiskExport {
    const coordinator = this.#coordinator;
    this.#server.add(spec);
    for (const bits of held) bits.hold();
    for (const used of [disk, ...others]) used.actor.send({ type: "use", user: { kind: "export", id } });
    const parts = { coordinator, server: this.#server, disk, others, spec, taken, held, id, of };
    const exported = new DiskExport(parts, () => this.#urisOf(spec.name));
    this.#exports.set(id, exported);
    coordinator.exports.set(id, exported);
    exported.whenGone(() => {
      this.#exports.delete(id);
      this.#events.emit({ at: coordinator.now(), name: "BLOCK_EXPORT_DELETED", data: { id } });
    });
    return exported;
  }

  #urisOf(name: string): readonly string[] {
    return this.addresses.map((bound) =>
      formatNbdUri({ address: reachable(bound), exportName: name, ...this.#uriTls }),
    );
  }

  #refuseExport(id: string, name: string, description: string | undefined): void {
    if (this.#closing !== undefined) throw new HeirloomError("ERR_SERVER_CLOSED", "export", "the server is closed");
    if (this.#coordinator.exports.has(id)) {
      const desc = `Block export id '${id}' is already in use`;
      throw new RefusalError("export", refusal("ERR_EXPORT_EXISTS", desc, { export: id }));
    }
    if (this.#server.exports.includes(name)) {
      const desc = `NBD server already has export named '${name}'`;
      throw new RefusalError("export", refusal("ERR_EXPORT_EXISTS", desc, { name }));
    }
    this.#server.check({ name, description });
  }

  #idFor(given: string | undefined, name: string): string {
    if (given !== undefined) return given;
    if (name !== "" && !this.#coordinator.exports.has(name)) return name;
    for (;;) {
      const id = `export${this.#nextExport++}`;
      if (!this.#coordinator.exports.has(id)) return id;
    }
  }

  #onEvent(event: NbdServerEvent): void {
    const at = this.#coordinator.now();
    const { type, ...data } = event;
    if (type === "connected") {
      // The last of that name: one before it is being removed, and takes nobody.
      const exported = this.exports.findLast(({ name }) => name === event.export);
      if (exported !== undefined) this.#exportOf.set(event.connection, exported);
      exported?.note({ type, peer: event.peer });
    } else if (type === "disconnected") {
      this.#exportOf.get(event.connection)?.note({ type, peer: event.peer, reason: event.reason });
      this.#exportOf.delete(event.connection);
    }
    this.#events.emit({ at, name: eventNames[type], data });
  }
}

interface WantedBitmap {
  readonly disk: DiskState;
  readonly name: string;
  /** Asked for by its name alone. */
  readonly own: boolean;
}

type DiskExportHeld = ConstructorParameters<typeof DiskExport>[0]["held"];

/** Who listens everywhere is reached here. */
function reachable(bound: BoundAddress): NbdAddress {
  if ("path" in bound) return { transport: "unix", path: resolve(bound.path) };
  const everywhere = bound.host === "::" || bound.host === "0.0.0.0";
  return { transport: "tcp", host: everywhere ? "localhost" : bound.host, port: bound.port };
}

const eventNames = {
  connected: "NBD_CLIENT_CONNECTED",
  disconnected: "NBD_CLIENT_DISCONNECTED",
  refused: "NBD_CLIENT_REFUSED",
} as const;

/** A clean close waits so long for what is in flight, and for devices. */
const closeMs = 7000;
const forcedCloseMs = 2000;
