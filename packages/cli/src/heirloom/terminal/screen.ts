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
    this.#write(`${this.#erase()}${lines.map((line) => `${line}\n`).join("")}${this.#live(this.#shown)}`);
  }

  /** Nothing where lines cannot be written anew. */
  live(lines: readonly string[]): void {
    if (!this.isLive) return;
    const erase = this.#erase();
    this.#shown = lines;
    this.#write(`${erase}${this.#live(lines)}`);
  }

  #erase(): string {
    return this.#shown.length === 0 ? "" : `\x1b[${this.#shown.length}A\r\x1b[J`;
  }

  /** A line that wraps would be two to go up. */
  #live(lines: readonly string[]): string {
    const { columns = 80 } = this.#stream;
    return lines.map((line) => `${cut(line, columns - 1)}\n`).join("");
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
