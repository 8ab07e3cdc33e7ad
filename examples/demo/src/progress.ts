/** Progress of what is being done: one line that is drawn anew on a terminal, else a line at the end of each step. */
import { now } from "./clock.ts";
import { duration } from "./format.ts";
import { type Paint, paintFor } from "./style.ts";

const barWidth = 24;
const redrawMs = 60;

export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #paint: Paint;
  readonly #begun = now();
  #step = "";
  #stepBegun = 0;
  #drawn = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#paint = paintFor(stream);
  }

  begin(step: string): void {
    this.#step = step;
    this.#stepBegun = now();
    this.#drawn = 0;
    this.show(0, "");
  }

  /** @param share of the step that is done, 0 to 1 */
  show(share: number, detail: string): void {
    if (!this.#stream.isTTY || now() - this.#drawn < redrawMs) return;
    this.#drawn = now();
    const full = Math.round(Math.min(1, share) * barWidth);
    const bar = this.#paint("cyan", "█".repeat(full)) + this.#paint("dim", "░".repeat(barWidth - full));
    this.#rewrite(`  ${bar} ${this.#step}${detail === "" ? "" : this.#paint("dim", `  ${detail}`)}`);
  }

  /** The step is over. @param good false where it should have ended otherwise */
  end(outcome: string, good = true): void {
    const mark = good ? this.#paint("green", "✓") : this.#paint("red", "✗");
    const took = this.#paint("dim", duration(now() - this.#stepBegun));
    this.#rewrite(`${this.#at()} ${mark} ${this.#step}: ${outcome} ${took}\n`);
  }

  /** Takes an unfinished line away. */
  clear(): void {
    if (this.#stream.isTTY) this.#stream.write("\r\u001B[2K");
  }

  #rewrite(line: string): void {
    this.#stream.write(this.#stream.isTTY ? `\r\u001B[2K${line}` : line);
  }

  #at(): string {
    return this.#paint("dim", `${((now() - this.#begun) / 1000).toFixed(1).padStart(6)} s`);
  }
}
