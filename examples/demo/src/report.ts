/** What the demo has found, for people: 100 columns at most. */
import { bitmap } from "./backups.ts";
import type { DemoResult } from "./demo.ts";
import { bytes, count, duration } from "./format.ts";
import type { PhaseFigures } from "./guests.ts";
import type { Paint } from "./style.ts";
import { chart, type Row, transitions } from "./timeline.ts";
import { holds, type Verdict } from "./verify.ts";

export function report(result: DemoResult, paint: Paint): string {
  const sections = [timelineSection, backupsSection, guestsSection, pointsSection, verdictSection];
  return sections.map((section) => section(result, paint).join("\n")).join("\n\n") + "\n";
}

function heading(text: string, paint: Paint): string {
  return paint("bold", text);
}

function timelineSection({ bitmapHistory, backups, span }: DemoResult, paint: Paint): string[] {
  const rows: Row[] = [
    { name: `bitmap ${bitmap}`, history: bitmapHistory },
    ...backups.map(({ plan, job, result }) => ({
      name: `  job ${plan.name}`,
      history: job.history,
      end: result.status,
    })),
  ];
  const legend = [
    paint("green", "─"),
    " recording  ",
    paint("cyan", "█"),
    " frozen, its successor records  ",
    paint("blue", "━"),
    " running  ",
    paint("red", "╳"),
    " aborting",
  ].join("");
  const states = rows.flatMap((actor) => transitions(actor, span)).map((line) => `  ${paint("dim", line)}`);
  return [
    heading("Timeline", paint),
    ...chart(rows, span, paint).map((line) => `  ${line}`),
    `  ${" ".repeat(14)}${legend}`,
    "",
    "  States in seconds (and the event that led there)",
    ...states,
  ];
}

function backupsSection({ backups }: DemoResult, paint: Paint): string[] {
  const header = row(["", "to copy", "copied", "data", "zeroes", "took", "held at freeze", "at end"]);
  const lines = backups.flatMap((backup) => {
    const { plan, result, artefact, why, set, copied, tookMs } = backup;
    const extents = artefact?.extents ?? [];
    const of = (kind: string): string =>
      artefact === undefined
        ? "-"
        : bytes(extents.filter((extent) => extent.kind === kind).reduce((sum, { length }) => sum + length, 0));
    const gates = [duration(result.freezeMs), duration(result.endMs)];
    const ended = result.status === "completed" ? paint("green", endOf(backup)) : paint("yellow", endOf(backup));
    return [
      row([plan.name, bytes(set), bytes(copied), of("data"), of("zero"), duration(tookMs), ...gates]),
      `    ${paint("dim", why)}`,
      `    ${ended}`,
    ];
  });
  return [heading("Backups, and how long each held the gate", paint), paint("dim", header), ...lines];
}

function endOf({ result }: DemoResult["backups"][number]): string {
  if (result.status === "completed") return "completed: the bitmap abdicated to what was written meanwhile";
  const why = result.status === "cancelled" ? "cancelled" : `failed (${result.error ?? "unknown"})`;
  return `${why}: the successor was reclaimed, the artefact removed`;
}

function row(cells: readonly string[]): string {
  const [first, ...others] = cells;
  const widths = [11, 11, 11, 11, 11, 17, 11];
  return `  ${first.padEnd(8)}${others.map((cell, index) => cell.padStart(widths[index])).join("")}`;
}

function guestsSection({ guests }: DemoResult, paint: Paint): string[] {
  const columns = (cells: readonly string[]): string =>
    `  ${cells[0].padEnd(22)}${cells
      .slice(1)
      .map((cell) => cell.padStart(12))
      .join("")}`;
  const line = (name: string, figures: PhaseFigures): string =>
    columns([
      name,
      count(figures.iops),
      `${bytes(figures.bytes / Math.max(figures.seconds, 1e-9))}/s`,
      duration(figures.p50),
      duration(figures.p99),
      duration(figures.max),
      `${figures.seconds.toFixed(1)} s`,
    ]);
  return [
    heading(
      `Guests: ${guests.count} writers on threads of their own, ${count(guests.requests)} requests in all`,
      paint,
    ),
    paint("dim", columns(["", "requests/s", "written", "p50", "p99", "max", "measured"])),
    ...guests.rows.flatMap((kind) => [
      `  ${kind.name}`,
      line("  no backup runs", kind.idle),
      line("  during backups", kind.duringBackup),
    ]),
    paint("dim", "  512 bytes to 1 MiB, aligned and not, in bursts of up to 24 with 1 to 3 ms of thought between."),
    paint("dim", "  Latency holds the wait at a closed gate, without the time that a shadow copy was made meanwhile."),
  ];
}

function pointsSection({ verdicts, shadowMs }: DemoResult, paint: Paint): string[] {
  const lines = verdicts.map((verdict) => {
    const mark = holds(verdict) ? paint("green", "✓") : paint("red", "✗");
    const check = verdict.e2fsckRun ? (verdict.fileSystem === undefined ? "; e2fsck: clean" : "; e2fsck: errors") : "";
    return `  ${mark} ${verdict.name.padEnd(8)}${`from ${verdict.chain.join(" + ")}`.padEnd(30)}${differenceOf(verdict)}${check}`;
  });
  const copies = paint(
    "dim",
    `  Shadow copies were made inside the closed gate, in ${duration(shadowMs)} each; that is not in the gate's times.`,
  );
  return [heading("Points in time, rebuilt and compared with a shadow copy of the instant", paint), ...lines, copies];
}

function differenceOf({ difference, length }: Verdict): string {
  if (difference === undefined) return `all ${count(length)} bytes are equal`;
  const what = difference.bytes === 1 ? "1 byte differs" : `${count(difference.bytes)} bytes differ`;
  return `${what}, the first at offset ${difference.offset}`;
}

function verdictSection({ verdicts, problems, seed, kept }: DemoResult, paint: Paint): string[] {
  const lines = problems.map((problem) => paint("red", `✗ ${problem}`));
  const keptLine = kept === undefined ? [] : [`Kept in ${kept}`];
  if (problems.length > 0) return [...lines, `Repeat with --seed ${seed}.`, ...keptLine];
  const checked = verdicts.some(({ e2fsckRun }) => e2fsckRun) ? ", and e2fsck found nothing to repair" : "";
  return [paint("green", `✓ All ${verdicts.length} points in time are exact${checked} (seed ${seed}).`), ...keptLine];
}
