/** A disk or a point in time that NBD clients see, until it is removed. */
import type { Recorder } from "@heirloom/engine";
import type { NbdExportSpec, NbdServer, TrafficCounts } from "@heirloom/nbd";
import type { BitmapState } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { RefusalError } from "./errors.ts";
import {
  type ExportContext,
  type ExportEffect,
  type ExportEvent,
  type ExportInput,
  exportMachine,
} from "./machines/export-machine.ts";
import { type Inspection, MachineActor } from "./machines/machine-actor.ts";

export interface ExportParts {
  readonly coordinator: Coordinator;
  readonly server: NbdServer;
  readonly disk: DiskState;
  /** Whose bitmaps it shows as well. */
  readonly others: ReadonlySet<DiskState>;
  readonly spec: NbdExportSpec;
  /** Bitmaps that the export took; those of a view are the view's. */
  readonly taken: readonly BitmapState[];
  /** Bits that threads look at. */
  readonly held: readonly Recorder[];
  readonly id: string;
  /** The disk's or the view's name. */
  readonly of: string;
}

export class DiskExport {
  readonly id: string;
  /** What clients ask for. */
  readonly name: string;
  readonly #parts: ExportParts;
  readonly #actor: MachineActor<ExportInput, ExportContext, ExportEvent, ExportEffect>;
  readonly #uris: () => readonly string[];
  #gone: Promise<boolean> | undefined;
  readonly #traffic: () => TrafficCounts;
  readonly #whenGone: (() => void)[] = [];

  /** @internal */
  constructor(parts: ExportParts, uris: () => readonly string[]) {
    const { id, of, spec, coordinator } = parts;
    this.id = id;
    this.name = spec.name;
    this.#parts = parts;
    this.#uris = uris;
    this.#traffic = parts.server.trafficOf(spec.name);
    const input = { id, of, bitmaps: spec.bitmaps.map(({ name }) => name) };
    this.#actor = new MachineActor(`export ${id}`, exportMachine, input, { now: coordinator.now });
  }

  /** Name of the disk or the view that it shows. */
  get disk(): string {
    return this.#parts.of;
  }
  /** Where clients find it, an address each. */
  get uris(): readonly string[] {
    return this.#uris();
  }
  get writable(): boolean {
    return this.#parts.spec.writable;
  }
  /** Clients that have it open. */
  get clients(): number {
    return this.#actor.context.clients;
  }
  get bitmaps(): readonly string[] {
    return this.#actor.context.bitmaps;
  }
  /** What clients have asked for since it is there; for people: no figure of it is exact while they are at it. */
  get traffic(): TrafficCounts {
    return this.#traffic();
  }

  /**
   * Takes it away. Resolves when no thread uses the disk for it any more; its bitmaps are free then.
   * @throws RefusalError while clients have it open, unless they are to be cut off with `force`
   */
  async remove(options: { readonly force?: boolean } = {}): Promise<void> {
    await this.end(options.force === true ? "hard" : "safe");
  }

  /**
   * @internal `soft`: clients are answered what they have in flight, and cut off then.
   * @returns whether they were
   */
  end(mode: "safe" | "soft" | "hard"): Promise<boolean> {
    if (this.#gone !== undefined) {
      if (mode === "hard") this.#parts.server.cutOff(this.name);
      return this.#gone;
    }
    const plan = this.#actor.plan({ type: "remove", mode });
    if (!plan.ok) return Promise.reject(new RefusalError("export remove", plan.refusal));
    this.#actor.commit(plan);
    this.#gone = this.#takeAway(mode !== "soft");
    return this.#gone;
  }

  /** @internal */
  whenGone(listener: () => void): void {
    this.#whenGone.push(listener);
  }

  /** @internal A client came, or went. */
  note(event: Extract<ExportEvent, { type: "connected" | "disconnected" }>): void {
    if (!this.#actor.done) this.#actor.send(event);
  }

  /** @internal */
  inspect(): Inspection<unknown> {
    return this.#actor.inspect();
  }

  async #takeAway(hard: boolean): Promise<boolean> {
    const { coordinator, server, disk, others, taken, held } = this.#parts;
    const answered = await server.remove(this.name, { hard });
    for (const bits of held) bits.letGo();
    await releaseBitmaps(coordinator, [disk, ...others], taken);
    this.#actor.send({ type: "letGo" });
    coordinator.exports.delete(this.id);
    for (const used of [disk, ...others]) coordinator.unuse(used, { kind: "export", id: this.id });
    for (const listener of this.#whenGone) listener();
    return answered;
  }
}

/** Bitmaps that an export took, and nobody looks at any more. */
export async function releaseBitmaps(
  coordinator: Coordinator,
  disks: readonly DiskState[],
  taken: readonly BitmapState[],
): Promise<void> {
  if (taken.length === 0) return;
  const draft = coordinator.draft(coordinator.nextCommand(), "export remove");
  await coordinator.engine.transitions.run({
    name: "export remove",
    stacks: [...new Set(disks.map((disk) => disk.layer.stack))],
    prepare: () => {
      for (const bitmap of taken) draft.plan(bitmap, { type: "release" });
      return { tables: draft.tables(), committed: () => draft.commit(), abandoned: () => draft.abandon() };
    },
  });
}
