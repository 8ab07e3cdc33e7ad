/** The events of one job, from before it begins. */
import type { QmpClient, QmpEvents } from "@heirloom/qmp";

export type JobEnd =
  | {
      readonly how: "completed" | "failed";
      readonly error: string | null;
      readonly offset: number;
      readonly length: number;
    }
  | { readonly how: "cancelled"; readonly error: null; readonly offset: number; readonly length: number };

export class JobEvents {
  /** What it came to, once that is told. */
  end: JobEnd | undefined;
  /** Nothing more will be told: its bitmap is free; or the connection is lost. */
  readonly #over: Promise<void>;
  lost = false;

  constructor(qmp: QmpClient, id: string) {
    this.#over = this.#follow(qmp, id);
  }

  /** Resolves when it has ended, or the connection is lost; false when that takes longer. */
  async ended(timeoutMs?: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      if (timeoutMs !== undefined) timer = setTimeout(() => resolve(false), timeoutMs);
    });
    const ended = await Promise.race([this.#over.then(() => true), late]);
    clearTimeout(timer);
    return ended;
  }

  async #follow(qmp: QmpClient, id: string): Promise<void> {
    for await (const { name, data } of qmp.events()) {
      if (name === "BLOCK_JOB_COMPLETED" && data.device === id) this.end = completed(data);
      else if (name === "BLOCK_JOB_CANCELLED" && data.device === id)
        this.end = { how: "cancelled", error: null, offset: data.offset, length: data.len };
      else if (
        name === "JOB_STATUS_CHANGE" &&
        data.id === id &&
        (data.status === "null" || data.status === "concluded")
      )
        return;
      else if (name === "CONNECTION_LOST") this.lost = true;
    }
    this.lost = true;
  }
}

function completed({ error, offset, len }: QmpEvents["BLOCK_JOB_COMPLETED"]): JobEnd {
  return { how: error === undefined ? "completed" : "failed", error: error ?? null, offset, length: len };
}
