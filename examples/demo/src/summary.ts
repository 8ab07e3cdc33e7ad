/** The result as JSON, for programs: the same figures as the report, in bytes and milliseconds. */
import type { DemoResult } from "./demo.ts";
import type { PhaseFigures } from "./guests.ts";

export function summary({
  seed,
  image,
  backups,
  bitmapHistory,
  verdicts,
  guests,
  problems,
  kept,
  shadowMs,
}: DemoResult): string {
  const value = {
    ok: problems.length === 0,
    problems,
    seed,
    image: { what: image.what, length: image.length },
    bitmap: bitmapHistory,
    backups: backups.map(({ plan, result, why, basedOn, artefact, set, copied, tookMs, job }) => ({
      name: plan.name,
      expected: plan.end,
      status: result.status,
      error: result.error,
      why,
      basedOn: basedOn ?? null,
      artefact: artefact?.id ?? null,
      toCopyBytes: set,
      copiedBytes: copied,
      tookMs,
      freezeMs: result.freezeMs,
      endMs: result.endMs,
      history: job.history,
    })),
    points: verdicts.map(({ name, chain, length, difference, fileSystem, e2fsckRun }) => ({
      name,
      chain,
      bytes: length,
      difference: difference ?? null,
      e2fsck: e2fsckRun ? (fileSystem ?? "clean") : "not run",
    })),
    guests: {
      writers: guests.count,
      requests: guests.requests,
      kinds: guests.rows.map(({ name, idle, duringBackup }) => ({
        name,
        idle: figures(idle),
        duringBackup: figures(duringBackup),
      })),
    },
    shadowCopyMs: shadowMs,
    kept: kept ?? null,
  };
  return `${JSON.stringify(value, null, 2)}\n`;
}

function figures({ requests, iops, bytes, p50, p99, max, seconds }: PhaseFigures): Record<string, number> {
  return { requests, requestsPerSecond: iops, bytes, p50Ms: p50, p99Ms: p99, maxMs: max, seconds };
}
