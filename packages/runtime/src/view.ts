/**
 * A point in time, read by its user: frozen when it is made, given up or used to begin anew when it ends. `success` is
 * abdicate, `fail` is reclaim, and so is leaving it without a word.
 */
import { assertRequest, BlockError, EIO, errnoName } from "@heirloom/block";
import { type BreakReason, type EngineView, operationReadView, type Recorder, requestBytesMax } from "@heirloom/engine";
import type { BitmapState } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DiskExport } from "./disk-export.ts";
import type { DiskState } from "./disk-state.ts";
import { HeirloomError, invariant, refusal, RefusalError } from "./errors.ts";
import type { Staged } from "./keeping.ts";
import type { ViewRequest } from "./options.ts";
import { guestDelayFor, type SpillDefaults, spillFor } from "./spill-options.ts";
import { refuseView } from "./refuse-view.ts";
import { refuseBitmapOperation } from "./validation/bitmap-operation.ts";
import { findBitmap } from "./validation/bitmap-request.ts";
import { type ViewFigures, viewFigures } from "./view-figures.ts";
import { bitmapOutcome, outcomeEvent } from "./validation/outcome.ts";
import { factsOf } from "./world.ts";

interface Standing {
  readonly id: string;
  readonly view: EngineView;
  readonly bitmap: BitmapState | undefined;
  /** The disk's ring knows the view by it. */
  readonly number: number;
}

let views = 0;

export class View {
  /** Resolves at the freeze. @throws RefusalError */
  readonly ready: Promise<void>;
  readonly id: string;
  readonly #coordinator: Coordinator;
  readonly #disk: DiskState;
  readonly #request: ViewRequest;
  readonly #defaults: SpillDefaults;
  #standing: Standing | undefined;
  /** What the bitmap said to which it is limited, if that is not its own. */
  #limitedTo: Recorder | undefined;
  readonly #exports = new Set<DiskExport>();
  #ending: Promise<void> | undefined;

  /** @internal */
  constructor(coordinator: Coordinator, disk: DiskState, request: ViewRequest, defaults: SpillDefaults) {
    this.id = `view${views++}`;
    this.#coordinator = coordinator;
    this.#disk = disk;
    this.#request = request;
    this.#defaults = defaults;
    this.ready = this.#freeze();
    this.ready.catch(() => {}); // told to whoever uses the view
  }

  /** Name of the disk. */
  get disk(): string {
    return this.#disk.name;
  }
  /** Why it was given up; undefined while it stands, and before and after. */
  get broken(): { readonly reason: BreakReason; readonly errno: number } | undefined {
    return this.#ending === undefined ? this.#standing?.view.broken : undefined;
  }
  /** What it holds now; undefined before and after. Counted: up to tens of milliseconds for a disk of many TiB. */
  get figures(): ViewFigures | undefined {
    return this.#ending === undefined && this.#standing !== undefined ? viewFigures(this.#standing.view) : undefined;
  }

  /** Bytes of the disk at the instant. */
  async length(): Promise<number> {
    return (await this.#stand()).view.memory.view.length;
  }

  /** What the bitmap says changed, in order, or what the view is limited to; without either, all of the disk. */
  async *extents(): AsyncGenerator<{ offset: number; length: number }, void, void> {
    const { bitmap, view } = await this.#stand();
    this.refuseEnded("view extents"); // the bitmap may be its heir by now
    const bits = bitmap === undefined ? this.#limitedTo : bitmap.memory.bits;
    if (bits === undefined) {
      const { length } = view.memory.view;
      if (length > 0) yield { offset: 0, length };
      return;
    }
    bits.hold(); // it may abdicate while the loop goes on
    try {
      yield* bits.bitmap.extents();
    } finally {
      bits.letGo();
    }
  }

  /**
   * Fills `buffer` from `offset` (bytes) with what the disk held at the instant.
   * @throws BlockError: EIO once the view is broken, or where the thread that read it died, EACCES outside its set, EINVAL outside the disk
   */
  async read(buffer: Uint8Array, offset: number): Promise<void> {
    if (!(buffer instanceof Uint8Array)) throw notBytes("read of a view");
    const { number, view } = await this.#stand();
    if (this.#ending !== undefined) throw new BlockError("ERR_REQUEST", `read of ${this.id}: the view has ended`);
    const limits = { length: view.memory.view.length, alignment: 1, readOnly: false };
    assertRequest(limits, "read", offset, buffer.length, this.id);
    const io = this.#coordinator.engine.io(this.#disk.layer);
    for (let done = 0; done < buffer.length; done += requestBytesMax) {
      const piece = buffer.subarray(done, done + requestBytesMax);
      const place = `read of ${this.id} at offset ${offset + done}`;
      const errno = await io
        .request(operationReadView, number, offset + done, piece.length, piece)
        .catch((cause: unknown) => {
          throw new BlockError("ERR_IO", `${place}: the thread that did it ended`, { offset, errno: EIO, cause });
        });
      if (errno === 0) continue;
      const because =
        this.#ending !== undefined || view.broken === undefined
          ? ""
          : `: the point in time was given up (${view.broken.reason})`;
      throw new BlockError("ERR_IO", `${place}: ${errnoName(errno)}${because}`, { offset, errno });
    }
  }

  /** @internal What an export shows of it. @throws HeirloomError once it has ended */
  async standing(operation: string): Promise<{
    readonly disk: DiskState;
    readonly engineView: EngineView;
    readonly bitmap: BitmapState | undefined;
    readonly all: boolean;
  }> {
    const { view, bitmap } = await this.#stand();
    this.refuseEnded(operation);
    const all = bitmap === undefined || this.#request.all === true;
    return { disk: this.#disk, engineView: view, bitmap, all };
  }
  /** @internal @throws HeirloomError once it has ended */
  refuseEnded(operation: string): void {
    if (this.#ending !== undefined) throw new HeirloomError("ERR_VIEW_ENDED", operation, `${this.id} has ended`);
  }
  /** @internal It goes when the view does. */
  exportedAs(exported: DiskExport): void {
    this.#exports.add(exported);
    exported.whenGone(() => this.#exports.delete(exported));
  }

  /** Everything was read: the bitmap abdicates to what guests wrote since. @throws HeirloomError if the view had broken: it is reclaimed */
  async success(): Promise<void> {
    const { view } = await this.#stand();
    if (this.#ending !== undefined) throw new HeirloomError("ERR_VIEW_ENDED", "view success", `${this.id} has ended`);
    const { broken } = view;
    await (this.#ending = this.#end(broken === undefined));
    if (broken === undefined) return;
    throw new HeirloomError(
      "ERR_VIEW_BROKEN",
      "view success",
      `the point in time was given up (${broken.reason}); the bitmap was reclaimed`,
    );
  }

  /** The bitmap is reclaimed. Nothing, if the view has ended. */
  async fail(): Promise<void> {
    await this.ready;
    await (this.#ending ??= this.#end(false));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.ready;
    } catch {
      return; // it never stood
    }
    await (this.#ending ??= this.#end(false));
  }

  async #stand(): Promise<Standing> {
    await this.ready;
    if (this.#standing === undefined) throw new HeirloomError("ERR_VIEW_ENDED", "view", `${this.id} has ended`);
    return this.#standing;
  }

  async #freeze(): Promise<void> {
    const coordinator = this.#coordinator;
    const disk = this.#disk;
    const request = this.#request;
    const { memory, file, options } = spillFor("view", { ...this.#defaults.spill, ...request.spill }, disk);
    const { bitmap: name } = request;
    const limit = (this.#limitedTo = await this.#limit());
    const intents = name === undefined ? [] : [{ disk, name, change: "freeze" } as const];
    try {
      await coordinator.keeping.during("view", intents, (staged) =>
        this.#freezeWith(staged, memory, file, options, limit),
      );
    } catch (error) {
      limit?.drop();
      throw error;
    }
    await this.#startCarrying();
  }

  /** A copy of what the bitmap says now: it goes on, and may go. @throws RefusalError */
  async #limit(): Promise<Recorder | undefined> {
    const { limit, bitmap } = this.#request;
    if (limit === undefined) return undefined;
    const { world, engine } = this.#coordinator;
    this.#coordinator.refuseClosing(limit.disk.state, true, "view");
    if (bitmap !== undefined) throw invalid("a view is limited by its bitmap or by another one, not by both");
    const draft = this.#coordinator.draft(0, "view");
    const found = findBitmap(factsOf(world, draft, [], 0), limit.disk.name, limit.name);
    if (!found.ok) throw new RefusalError("view", found.refusal);
    const refused = refuseBitmapOperation(limit.name, found.value, "merge-source");
    if (refused !== undefined) throw new RefusalError("view", refused);
    const { bits } = limit.disk.state.bitmaps.get(limit.name)?.memory ?? {};
    invariant(bits !== undefined, "the bitmap was found before");
    const { length, granularity } = bits.bitmap;
    if (length !== this.#disk.layer.table.length) {
      const desc = `Bitmaps are of different sizes (destination size is ${this.#disk.layer.table.length}, source size is ${length}) and can't be merged`;
      throw new RefusalError("view", refusal("ERR_BITMAP_SIZES", desc, { bitmap: limit.name }));
    }
    const copy = engine.recorder(length, granularity);
    bits.hold();
    await engine.fold(copy.bitmap, bits.bitmap);
    bits.letGo();
    return copy;
  }

  /** The target's disk, which is this view's until it ends. @throws RefusalError */
  #takeTarget(): DiskState | undefined {
    const { target } = this.#request;
    if (target === undefined) {
      if (this.#request.waitForTarget === true) throw invalid("waitForTarget needs a target");
      return undefined;
    }
    const { state } = target;
    this.#coordinator.refuseClosing(state, true, "view");
    if (state.node.identity === this.#disk.node.identity) throw invalid("Source and target cannot be the same");
    if (target.length < this.#disk.layer.table.length)
      throw invalid(`target '${target.name}' is shorter than the disk`);
    if (state.node.readOnly)
      throw new RefusalError("view", refusal("ERR_NODE_READ_ONLY", "Block node is read-only", { node: target.name }));
    return state;
  }

  /** @throws HeirloomError where there is no thread for it; the view has ended then */
  async #startCarrying(): Promise<void> {
    const { target } = this.#request;
    const { view } = this.#standing ?? {};
    if (target === undefined || view === undefined) return;
    const options = {
      target: { disk: target.state.layer.stack.address(target.state.layer) },
      targetIsZero: false,
      threads: 1,
      runBytesMax: 1024 * 1024,
      detectZeroes: false,
      discardSource: false,
      copies: false,
      scan: undefined,
      yieldMs: 0,
      // What the target does not take stays in the spill; that fills up, and then the one or the other gives way.
      onSourceError: "ignore",
      onTargetError: "ignore",
      speed: 0,
    } as const;
    try {
      void view.startMovers(options, () => {});
    } catch (error) {
      await (this.#ending = this.#end(false));
      throw this.#coordinator.asRefusal(error, "view");
    }
  }

  async #freezeWith(
    staged: Staged,
    memory: number,
    file: number,
    options: ReturnType<typeof spillFor>["options"],
    limit: Recorder | undefined,
  ): Promise<void> {
    const coordinator = this.#coordinator;
    const { engine } = coordinator;
    const disk = this.#disk;
    const { layer } = disk;
    const request = this.#request;
    const draft = coordinator.draft(coordinator.nextCommand(), "view", staged);
    const user = { kind: "view", id: this.id } as const;
    const frozen = engine.transitions.run({
      name: "freeze",
      stacks: [layer.stack],
      deadlineMs: coordinator.freezeDeadlineMs,
      prepare: () => {
        coordinator.refuseClosing(disk, true, "view");
        const target = this.#takeTarget();
        const alignment = Math.max(disk.node.alignment, target?.node.alignment ?? 1);
        refuseView("view", layer, viewClusterSize, alignment);
        const bitmap = this.#planFreeze(draft);
        const set = bitmap === undefined || request.all === true ? limit : draft.memoryOf(bitmap).bits;
        const sizes = {
          length: layer.table.length,
          clusterSize: viewClusterSize,
          alignment,
          spillMemory: memory,
          spillFile: file,
        };
        const view = engine.view(
          layer,
          {
            ...sizes,
            guestDelayMaxMs: this.#guestDelay(),
            breakGuestWrite: request.onSpillFull === "break-guest-write" || request.waitForTarget === true,
            synchronous: request.waitForTarget === true,
            readers: true,
            ...(target === undefined ? {} : { target: target.node }),
          },
          set,
          options,
          () => {},
        );
        draft.addView(disk, view);
        // Not from the commit on: a detach must not come in between.
        for (const used of this.#disks()) used.actor.send({ type: "use", user });
        return {
          tables: draft.tables(),
          observe: coordinator.observer({ jobs: [], views: [{ view: this.id, disk: disk.name }] }),
          committed: () => {
            draft.commit();
            coordinator.views.set(this.id, this);
            coordinator.brokenViews.watch();
            this.#standing = { id: this.id, view, bitmap, number: engine.adoptView(view) };
            // A forced detach that came while the gate was still held found no view to end.
            if (this.#disks().some((used) => used.actor.state !== "open")) this.#ending = this.#end(false);
          },
          abandoned: () => {
            draft.abandon();
            void view.release();
            for (const used of this.#disks()) coordinator.unuse(used, user);
          },
        };
      },
    });
    await frozen.catch((error: unknown) => {
      throw coordinator.asRefusal(error, "view");
    });
  }

  /** Those that it uses. */
  #disks(): readonly DiskState[] {
    const { target } = this.#request;
    return target === undefined ? [this.#disk] : [this.#disk, target.state];
  }

  #guestDelay(): number {
    const { guestDelayMax, onSpillFull, waitForTarget } = this.#request;
    const endless = onSpillFull === "break-guest-write" || waitForTarget === true;
    return guestDelayFor("view", guestDelayMax ?? this.#defaults.guestDelayMax, endless);
  }

  #planFreeze(draft: ReturnType<Coordinator["draft"]>): BitmapState | undefined {
    const { bitmap: name, bitmapMode: mode = "on-success" } = this.#request;
    if (name === undefined) {
      if (this.#request.bitmapMode === undefined) return undefined;
      throw new RefusalError(
        "view",
        refusal("ERR_BACKUP_BITMAP_MODE", "Cannot specify bitmap sync mode without a bitmap", { bitmapMode: mode }),
      );
    }
    const found = findBitmap(factsOf(this.#coordinator.world, draft, [], draft.command), this.#disk.name, name);
    if (!found.ok) throw new RefusalError("view", found.refusal);
    const bitmap = draft.bitmap(this.#disk, name);
    if (bitmap === undefined) return undefined;
    draft.plan(bitmap, { type: "freeze", user: { kind: "view", id: this.id }, mode, command: draft.command });
    return bitmap;
  }

  async #end(success: boolean): Promise<void> {
    const coordinator = this.#coordinator;
    const standing = this.#standing;
    if (standing === undefined) return;
    const { view, bitmap, number } = standing;
    // Cut off now; that their threads let go is waited for below, when the bitmap has its new life.
    const exportsGone = Promise.all([...this.#exports].map((exported) => exported.end("hard")));
    const outcome = bitmapOutcome("bitmap", this.#request.bitmapMode ?? "on-success", success ? "success" : "failure");
    // Without a target nothing is "copied": always after a failure keeps all of the set, as never and on-success do.
    const event = outcome === undefined ? undefined : outcomeEvent(outcome === "W|U" ? "P|W" : outcome);
    if (bitmap === undefined || !bitmap.actor.context.persistent) await this.#step(success, standing, event);
    else {
      await coordinator.keeping.alone(new Set([this.#disk]), async () => {
        if (event?.type === "abdicate") {
          // Decided, then durable, then true: as a job's end.
          await this.#step(success, standing, undefined);
          await coordinator.keeping.abdicated([bitmap]);
          await this.#step(success, standing, event, true);
        } else {
          await this.#step(success, standing, event);
          await coordinator.keeping.settled([bitmap]);
        }
      });
    }
    this.#standing = undefined;
    coordinator.views.delete(this.id);
    await exportsGone;
    await coordinator.engine.io(this.#disk.layer).forget(number);
    await coordinator.snapshots.end(view);
    await view.release();
    this.#limitedTo?.drop();
    for (const used of this.#disks()) coordinator.unuse(used, { kind: "view", id: this.id });
  }

  /** A transition in which the view stops (unless it has) and its bitmap changes (if it does), and the folds that follow. */
  async #step(
    success: boolean,
    { view, bitmap }: Standing,
    event: ReturnType<typeof outcomeEvent>,
    stopped = false,
  ): Promise<void> {
    const coordinator = this.#coordinator;
    const draft = coordinator.draft(coordinator.nextCommand(), "view");
    let folded: Promise<void> | undefined;
    await coordinator.engine.transitions.run({
      name: success ? "abdicate" : "reclaim",
      stacks: [this.#disk.layer.stack],
      prepare: () => {
        if (!stopped) draft.removeView(this.#disk, view);
        if (bitmap !== undefined && event !== undefined) draft.plan(bitmap, { ...event, command: draft.command });
        return {
          tables: draft.tables(),
          commit: () => {
            if (!stopped) view.stop();
          },
          committed: () => {
            if (!stopped) view.wake();
            draft.commit();
            folded = coordinator.runFolds(draft.folds);
          },
        };
      },
    });
    await folded;
  }
}

function invalid(desc: string): RefusalError {
  return new RefusalError("view", refusal("ERR_INVALID_ARGUMENT", desc, {}));
}

const viewClusterSize = 65536;

/** The refusal of a request whose buffer is no bytes in memory. */
export function notBytes(operation: string): BlockError {
  return new BlockError("ERR_REQUEST", `${operation}: the buffer must be a Uint8Array`);
}
