/**
 * Output for people. Lines scroll by; on a terminal the last few, the live ones, are written anew in place.
 *
 * Whoever reads may go away (a closed terminal, `| head`): the disks go on being served, and what is printed is lost.
 */
export class Screen {
  readonly #stream: NodeJS.WriteStream;
  /** Live lines that stand on the terminal now. */
  #shown: readonly string[] = [];
  #broken = false;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    stream.on("error", () => (this.#broken = true));
  }

  /** Lines can be written anew. */
  get isLive(): boolean {
    return this.#stream.isTTY && process.env.TERM !== "dumb";
  }

  print(...lines: readonly string[]): void {
    this.#write(`${this.#erase()}${ended(lines)}${this.#fit(this.#shown)}`);
  }

  /** What stands below from now on, with lines above it that scroll by. */
  live(live: readonly string[], ...above: readonly string[]): void {
    const erase = this.#erase();
    this.#shown = this.isLive ? this.#below(live) : [];
    if (this.isLive || above.length > 0) this.#write(`${erase}${ended(above)}${this.#fit(this.#shown)}`);
  }

  /** What does not fit on the screen could not be erased again. */
  #below(lines: readonly string[]): readonly string[] {
    const most = Math.max(2, this.#stream.rows - 1);
    if (lines.length <= most) return lines;
    return [...lines.slice(0, most - 1), `... and ${lines.length - most + 1} more`];
  }

  #erase(): string {
    return this.#shown.length === 0 ? "" : `\x1b[${this.#shown.length}A\r\x1b[J`;
  }

  /** A line that wraps would be two to go up. */
  #fit(lines: readonly string[]): string {
    const { columns } = this.#stream;
    return ended(lines.map((line) => cut(line, columns - 1)));
  }

  #write(text: string): void {
    if (this.#broken) return;
    try {
      this.#stream.write(text);
    } catch {
      this.#broken = true;
    }
  }
}

function ended(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}

// oxlint-disable-next-line no-control-regex
const ESCAPE = /\x1b\[[0-9;]*m/y;

/** At most so many characters that are seen; escapes take no room, and stay. */
export function cut(line: string, width: number): string {
  let seen = 0;
  let kept = "";
  for (let at = 0; at < line.length;) {
    ESCAPE.lastIndex = at;
    const escape = ESCAPE.exec(line)?.[0];
    if (escape !== undefined) {
      kept += escape;
      at += escape.length;
      continue;
    }
    const character = String.fromCodePoint(line.codePointAt(at) ?? 0);
    if (seen < width) kept += character;
    seen++;
    at += character.length;
  }
  return kept;
}
