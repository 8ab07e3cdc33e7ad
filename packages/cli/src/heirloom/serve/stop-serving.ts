/**
 * The end of `heirloom serve`, which comes within a named time, whatever a device does:
 *
 *     first signal   clean   clients are answered what is in flight, disks are flushed; at most `timeoutMs`
 *     second         hard    clients are cut off; at most HARD_STOP_MS
 *     third          now
 *
 * Whatever is still under way then is left behind, and told: it hangs in a device, and waiting for it would be for ever.
 */
import type { ServeReport, StopEnd } from "./serve-report.ts";
import type { ServedDisk, Serving } from "./serving.ts";
import type { StopSignals } from "../stop-signals.ts";

export const HARD_STOP_MS = 3000;

/** How it ended. Where it is not clean, threads may hang in a device, and only `exitNow` ends the process. */
export async function stopServing(
  serving: Serving,
  signal: string,
  signals: StopSignals,
  report: ServeReport,
  timeoutMs: number,
): Promise<StopEnd> {
  const { server } = serving;
  const progress: Progress = { step: "clients' requests are still in flight" };
  report.stopping({ signal, clients: server.connections, hard: false });
  const clean = stopCleanly(serving, progress);
  const first = await firstOf(clean, signals, timeoutMs);
  if (typeof first === "object") return first;

  // Nobody new from here on, and the sockets' files are gone when this call returns.
  serving.control?.close();
  const closed = server.close({ force: true });
  if (first === LATE) return { clean: false, why: `after ${timeoutMs / 1000} s ${progress.step}` };
  report.stopping({ signal: first, clients: server.connections, hard: true });
  const cut = "clients were cut off";
  const second = await firstOf(
    closed.then(() => clean),
    signals,
    HARD_STOP_MS,
  );
  if (typeof second === "object") return { clean: false, why: second.why ?? cut };
  return { clean: false, why: `${cut}, and ${progress.step}` };
}

const LATE = "late";

/** The end, the next signal's name, or that it is late. */
async function firstOf(end: Promise<StopEnd>, signals: StopSignals, timeoutMs: number): Promise<StopEnd | string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(LATE), timeoutMs);
  });
  try {
    return await Promise.race([end, signals.next(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What is waited for. */
interface Progress {
  step: string;
}

async function stopCleanly(
  { runtime, server, disks, control, metrics }: Serving,
  progress: Progress,
): Promise<StopEnd> {
  control?.close();
  metrics?.close();
  const answered = await server.close();
  const failures = await Promise.all(disks.map((served) => flush(served, progress)));
  progress.step = "disks are still being closed";
  await runtime.close();
  await control?.end();
  const hangs = runtime.inspect().threads > 0 ? "a device hangs, and what was written to it may be lost" : undefined;
  const unanswered = answered ? undefined : "a device did not answer, and clients were cut off";
  const why = failures.find((failure) => failure !== undefined) ?? hangs ?? unanswered;
  return { clean: why === undefined, why };
}

/** What guests have written and not flushed is on the disk afterwards. @returns why it is not */
async function flush({ image, disk, exported }: ServedDisk, progress: Progress): Promise<string | undefined> {
  if (!exported.writable) return undefined;
  progress.step = `'${image.path}' is still being flushed: what its clients did not flush themselves may be lost`;
  try {
    await disk.flush();
    return undefined;
  } catch (error) {
    return `flush '${image.path}': ${(error as Error).message}`;
  }
}
