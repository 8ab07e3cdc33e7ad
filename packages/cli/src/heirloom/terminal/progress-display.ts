/** How far a copy is: a bar on a terminal, a line from time to time elsewhere. On standard error: the result is output. */
import { formatBytes } from "../sizes.ts";
import type { Paint } from "./colours.ts";
import type { Screen } from "./screen.ts";

export interface CopyProgress {
  /** Bytes done, of how many. */
  readonly offset: number;
  readonly length: number;
  /** Bytes that had data. */
  readonly bytesCopied: number;
}

const BAR_MS = 200;
const LINE_MS = 10_000;
const BAR_CELLS = 30;

export class ProgressDisplay {
  readonly #screen: Screen;
  readonly #paint: Paint;
  readonly #begun = performance.now();
  #shownAt: number = this.#begun;

  constructor(screen: Screen, paint: Paint) {
    this.#screen = screen;
    this.#paint = paint;
  }

  show(progress: CopyProgress): void {
    const now = performance.now();
    if (now - this.#shownAt < (this.#screen.isLive ? BAR_MS : LINE_MS)) return;
    this.#shownAt = now;
    const seconds = (now - this.#begun) / 1000;
    const text = describe(progress, seconds);
    if (this.#screen.isLive) this.#screen.live([`${this.#bar(progress)} ${text}`]);
    else this.#screen.print(text);
  }

  /** A line above the bar. */
  say(text: string): void {
    this.#screen.print(text);
  }

  /** The bar goes. */
  end(): void {
    this.#screen.live([]);
  }

  #bar({ offset, length }: CopyProgress): string {
    const done = length === 0 ? BAR_CELLS : Math.floor((offset / length) * BAR_CELLS);
    return `${this.#paint("green", "━".repeat(done))}${this.#paint("dim", "─".repeat(BAR_CELLS - done))}`;
  }
}

/** "42 %, 1.2 GiB copied, 310 MiB/s, 12 s left" */
export function describe(progress: CopyProgress, seconds: number): string {
  const { offset, length, bytesCopied } = progress;
  const share = length === 0 ? 1 : offset / length;
  const left = share > 0 && share < 1 ? `, ${Math.ceil((seconds / share) * (1 - share))} s left` : "";
  const rate = seconds > 0 ? `, ${formatBytes(bytesCopied / seconds)}/s` : "";
  return `${Math.floor(share * 100)} %, ${formatBytes(bytesCopied)} copied${rate}${left}`;
}
