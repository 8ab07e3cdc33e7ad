/**
 * A point in time, read by its user: frozen when it is made, given up or used to begin anew when it ends. `success` is
 * abdicate, `fail` is reclaim, and so is leaving it without a word.
 */
import { BlockError, errnoName } from "@heirloom/block";
import { type EngineView, operationReadView, requestBytesMax } from "@heirloom/engine";
import type { BitmapState } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DiskExport } from "./disk-export.ts";
import type { DiskState } from "./disk-state.ts";
import { HeirloomError, refusal, RefusalError } from "./errors.ts";
import type { Staged } from "./keeping.ts";
import type { ViewRequest } from "./options.ts";
import { guestDelayFor, type SpillDefaults, spillFor } from "./spill-options.ts";
import { refuseView } from "./refuse-view.ts";
import { findBitmap } from "./validation/bitmap-request.ts";
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

  /** Bytes of the disk at the instant. */
  async length(): Promise<number> {
    return (await this.#stand()).view.memory.view.length;
  }

  /** What the bitmap says changed, in order; without a bitmap, all of the disk. */
  async *extents(): AsyncGenerator<{ offset: number; length: number }, void, void> {
    const { bitmap, view } = await this.#stand();
    this.refuseEnded("view extents"); // the bitmap may be its heir by now
    if (bitmap === undefined) {
      yield { offset: 0, length: view.memory.view.length };
      return;
    }
    const { bits } = bitmap.memory;
    bits.hold(); // it may abdicate while the loop goes on
    try {
      yield* bits.bitmap.extents();
    } finally {
      bits.letGo();
    }
  }

  /** Fills `buffer` with what the disk held at the instant. @throws BlockError: EIO once the view is broken, EINVAL outside it */
  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const { number, view } = await this.#stand();
    if (this.#ending !== undefined) throw new BlockError("ERR_REQUEST", `read of ${this.id}: the view has ended`);
    const io = this.#coordinator.engine.io(this.#disk.layer);
    for (let done = 0; done < buffer.length; done += requestBytesMax) {
      const piece = buffer.subarray(done, done + requestBytesMax);
      const errno = await io.request(operationReadView, number, offset + done, piece.length, piece);
      if (errno === 0) continue;
      const because =
        this.#ending !== undefined || view.broken === undefined
          ? ""
          : `: the point in time was given up (${view.broken.reason})`;
      throw new BlockError("ERR_IO", `read of ${this.id} at offset ${offset + done}: ${errnoName(errno)}${because}`, {
        offset,
        errno,
      });
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
    const intents = name === undefined ? [] : [{ disk, name, change: "freeze" } as const];
    await coordinator.keeping.during("view", intents, (staged) => this.#freezeWith(staged, memory, file, options));
  }

  async #freezeWith(
    staged: Staged,
    memory: number,
    file: number,
    options: ReturnType<typeof spillFor>["options"],
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
        refuseView("view", layer, viewClusterSize, disk.node.alignment);
        const bitmap = this.#planFreeze(draft);
        const set = bitmap === undefined || request.all === true ? undefined : draft.memoryOf(bitmap).bits;
        const sizes = {
          length: layer.table.length,
          clusterSize: viewClusterSize,
          alignment: disk.node.alignment,
          spillMemory: memory,
          spillFile: file,
        };
        const view = engine.view(
          layer,
          {
            ...sizes,
            guestDelayMaxMs: guestDelayFor("view", request.guestDelayMax ?? this.#defaults.guestDelayMax),
            breakGuestWrite: false,
            readers: true,
          },
          set,
          options,
          () => {},
        );
        draft.addView(disk, view);
        disk.actor.send({ type: "use", user }); // not from the commit on: a detach must not come in between
        return {
          tables: draft.tables(),
          observe: coordinator.observer({ jobs: [], views: [{ view: this.id, disk: disk.name }] }),
          committed: () => {
            draft.commit();
            coordinator.views.set(this.id, this);
            this.#standing = { id: this.id, view, bitmap, number: engine.adoptView(view) };
            // A forced detach that came while the gate was still held found no view to end.
            if (disk.actor.state !== "open") this.#ending = this.#end(false);
          },
          abandoned: () => {
            draft.abandon();
            void view.release();
            coordinator.unuse(disk, user);
          },
        };
      },
    });
    await frozen.catch((error: unknown) => {
      throw coordinator.asRefusal(error, "view");
    });
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
    await view.release();
    coordinator.unuse(this.#disk, { kind: "view", id: this.id });
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

const viewClusterSize = 65536;
