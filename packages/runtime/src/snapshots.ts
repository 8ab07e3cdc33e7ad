/**
 * Points in time as disks: to be exported, backed up and looked at as any other. Such a disk reads a view of a user's or of a
 * job's. Once that has ended it answers EIO; the view's memory is given back when its snapshots are gone. Those of a user's view go with it,
 * those of a job are its user's to take away.
 */
import type { EngineView } from "@heirloom/engine";
import type { NodeSpec } from "@heirloom/block";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { refusal, RefusalError } from "./errors.ts";
import { Job } from "./job.ts";
import { View } from "./view.ts";

/** The driver's name in a specification: `{ driver: "snapshot", view }`, or with `job`. */
const snapshotDriver = "snapshot";

export interface SnapshotSource {
  readonly engineView: EngineView;
  /** Whose point in time it is. */
  readonly disk: DiskState;
  readonly spec: NodeSpec;
  /** @throws HeirloomError once the view has ended */
  readonly refuseEnded: () => void;
}

export class Snapshots {
  readonly #ends = new Map<EngineView, Set<() => Promise<void>>>();
  readonly #waiting = new Map<EngineView, () => void>();

  /** @param end takes the disk away; resolves when no thread reads the view by it any more */
  add(view: EngineView, end: () => Promise<void>): void {
    const ends = this.#ends.get(view) ?? new Set();
    this.#ends.set(view, ends.add(end));
  }

  gone(view: EngineView, end: () => Promise<void>): void {
    const ends = this.#ends.get(view);
    if (ends?.delete(end) !== true || ends.size > 0) return;
    this.#ends.delete(view);
    this.#waiting.get(view)?.();
    this.#waiting.delete(view);
  }

  /** Takes those of a view away. */
  async end(view: EngineView): Promise<void> {
    await Promise.all([...(this.#ends.get(view) ?? [])].map((end) => end()));
  }

  /** Resolves when those of a view have been taken away. */
  async allGone(view: EngineView): Promise<void> {
    if (!this.#ends.has(view)) return;
    await new Promise<void>((resolve) => this.#waiting.set(view, resolve));
  }
}

/** What a specification asks for, if it is a snapshot's. @throws RefusalError, HeirloomError */
export async function snapshotIn(coordinator: Coordinator, spec: NodeSpec): Promise<SnapshotSource | undefined> {
  if (spec.driver !== snapshotDriver) return undefined;
  const { view, job, discard = "ignore", readOnly = false } = spec;
  const options = { discard: discard === "unmap", readOnly: readOnly === true };
  const from = view instanceof View ? view : job instanceof Job ? job : undefined;
  if (from === undefined) {
    const desc = "driver 'snapshot' needs a view, or a job that can be read";
    throw new RefusalError("attach", refusal("ERR_INVALID_ARGUMENT", desc, { driver: snapshotDriver }));
  }
  const { engineView, disk } = await from.standing("attach");
  return {
    engineView,
    disk,
    spec: coordinator.engine.snapshotSpec(engineView, options),
    refuseEnded: () => from.refuseEnded("attach"),
  };
}
