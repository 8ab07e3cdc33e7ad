/** States over time: a chart with a row for each actor, and beneath it when each went where, and by which event. */
import type { HistoryEntry } from "@heirloom/runtime";
import type { Paint, Style } from "./style.ts";

export interface Row {
  readonly name: string;
  readonly history: readonly HistoryEntry[];
  /** How it ended, if it has. */
  readonly end?: string;
}

/** Milliseconds since the epoch. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

const nameWidth = 14;
const chartWidth = 82;

interface Mark {
  readonly glyph: string;
  readonly style: Style;
}
const marks: Readonly<Record<string, Mark>> = {
  recording: { glyph: "─", style: "green" },
  disabled: { glyph: "·", style: "dim" },
  frozen: { glyph: "█", style: "cyan" },
  folding: { glyph: "▒", style: "yellow" },
  created: { glyph: "╶", style: "dim" },
  running: { glyph: "━", style: "blue" },
  paused: { glyph: "┄", style: "yellow" },
  waiting: { glyph: "━", style: "blue" },
  pending: { glyph: "━", style: "blue" },
  committing: { glyph: "━", style: "blue" },
  aborting: { glyph: "╳", style: "red" },
};

export function chart(rows: readonly Row[], span: Span, paint: Paint): string[] {
  const lines = rows.map(({ name, history }) => name.padEnd(nameWidth) + rowOf(history, span, paint));
  return [...lines, " ".repeat(nameWidth) + axis(span, paint)];
}

function rowOf(history: readonly HistoryEntry[], span: Span, paint: Paint): string {
  let line = "";
  for (let column = 0; column < chartWidth;) {
    const state = stateOf(column, history, span);
    const first = column;
    do column++;
    while (column < chartWidth && stateOf(column, history, span) === state);
    const mark = state === undefined ? undefined : marks[state];
    line += mark === undefined ? " ".repeat(column - first) : paint(mark.style, mark.glyph.repeat(column - first));
  }
  return line.trimEnd();
}

function stateOf(column: number, history: readonly HistoryEntry[], span: Span): string | undefined {
  return stateIn(history, timeOf(column, span), timeOf(column + 1, span));
}

/** The state of a column: of those that it goes through the one that is rarest to see, so that a short freeze shows. */
function stateIn(history: readonly HistoryEntry[], from: number, to: number): string | undefined {
  const before = history.findLast(({ at }) => at <= from)?.to;
  const within = history.filter(({ at }) => at > from && at <= to).map((entry) => entry.to);
  const seen = before === undefined ? within : [before, ...within];
  return (
    seen.find((state) => state === "aborting") ??
    seen.find((state) => state === "frozen") ??
    seen.find((state) => state in marks)
  );
}

function timeOf(column: number, { from, to }: Span): number {
  return from + ((to - from) * column) / chartWidth;
}

function axis({ from, to }: Span, paint: Paint): string {
  const seconds = (to - from) / 1000;
  const step = [0.5, 1, 2, 5, 10, 20, 60].find((candidate) => seconds / candidate <= 9) ?? 300;
  let line = "";
  for (let at = 0; at <= seconds; at += step) {
    const label = `╵${at} s`;
    const column = Math.round((at / seconds) * chartWidth);
    if (column + label.length <= chartWidth) line = line.padEnd(column) + label;
  }
  return paint("dim", line);
}

/** "full  1.60 created, 1.72 running (start), ...", wrapped at the chart's width. */
export function transitions({ name, history, end }: Row, span: Span): string[] {
  const words = history.map(({ at, event, to }, index) => {
    const isLast = index === history.length - 1;
    const because = event === "init" ? "" : isLast && end !== undefined ? ` (${event}: ${end})` : ` (${event})`;
    return `${((at - span.from) / 1000).toFixed(2)} ${to}${because}${isLast ? "" : ", "}`;
  });
  const lines: string[] = [];
  let line = "";
  for (const word of words) {
    if ((line + word).trimEnd().length > chartWidth) {
      lines.push(line.trimEnd());
      line = "";
    }
    line += word;
  }
  lines.push(line);
  return lines.map((text, index) => (index === 0 ? name : "").padEnd(nameWidth) + text);
}
