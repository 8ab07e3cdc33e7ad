/** Says that a user's point in time was given up, soon after it was: whoever reads it finds out at once, others hear of it here. */
import type { Coordinator } from "./coordinator.ts";
import type { EventStream } from "./event-stream.ts";
import { brokenText } from "./job-reasons.ts";
import type { View } from "./view.ts";

const lookMs = 200;

export class BrokenViews {
  readonly #coordinator: Coordinator;
  readonly #events: EventStream;
  readonly #told = new WeakSet<View>();
  #timer: NodeJS.Timeout | undefined;

  constructor(coordinator: Coordinator, events: EventStream) {
    this.#coordinator = coordinator;
    this.#events = events;
  }

  /** There is a view: looks from now on, for as long as there is any. */
  watch(): void {
    this.#timer ??= setInterval(() => this.#look(), lookMs).unref();
  }

  #look(): void {
    const { views, now } = this.#coordinator;
    if (views.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    for (const [id, view] of views) {
      const broken = view.broken;
      if (broken === undefined || this.#told.has(view)) continue;
      this.#told.add(view);
      const { reason, errno } = broken;
      const data = { view: id, disk: view.disk, reason, error: brokenText(reason, errno) };
      this.#events.emit({ at: now(), name: "VIEW_BROKEN", data });
    }
  }
}
