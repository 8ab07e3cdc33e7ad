/** `heirloom serve`: from the parsed command line to the end of the process. */
import { exitNow } from "@heirloom/block";
import { EXIT_FAILURE } from "../command-error.ts";
import { writePidFile } from "./pid-file.ts";
import type { ClientEvent, ServeReport } from "./serve-report.ts";
import { openServing, type ServeRequest, type Serving } from "./serving.ts";
import { stopServing } from "./stop-serving.ts";
import { StopSignals } from "../stop-signals.ts";

export interface ServeLife {
  readonly pidFile: string | undefined;
  /** What a clean stop may take. */
  readonly stopTimeoutMs: number;
}

/** Returns after a clean stop; one that is not ends the process. @throws CommandError, and what the runtime refuses */
export async function serve(request: ServeRequest, life: ServeLife, report: ServeReport): Promise<void> {
  // From the first: what was opened is closed again, also where the signal comes early. A second one does not wait for that.
  const signals = new StopSignals();
  const stop = signals.next();
  let opened = false;
  void stop.then(async () => {
    if (opened) return;
    await signals.next();
    exitNow(EXIT_FAILURE);
  });
  const serving = await openServing(request, () => signals.push("quit"));
  opened = true;
  const removePidFile = await announce(serving, life.pidFile);
  void follow(serving, report);
  report.ready(serving);
  const end = await stopServing(serving, await stop, signals, report, life.stopTimeoutMs);
  removePidFile();
  report.stopped(end);
  if (!end.clean) exitNow(EXIT_FAILURE);
  signals[Symbol.dispose]();
}

async function announce(serving: Serving, pidFile: string | undefined): Promise<() => void> {
  if (pidFile === undefined) return () => undefined;
  try {
    return writePidFile(pidFile);
  } catch (error) {
    await serving.runtime.close();
    throw error;
  }
}

async function follow({ runtime }: Serving, report: ServeReport): Promise<void> {
  for await (const { name, data } of runtime.events()) {
    switch (name) {
      case "NBD_CLIENT_CONNECTED":
        report.clientCame(data as unknown as ClientEvent);
        break;
      case "NBD_CLIENT_DISCONNECTED":
        report.clientLeft(data as unknown as Parameters<ServeReport["clientLeft"]>[0]);
        break;
      case "NBD_CLIENT_REFUSED":
        report.clientRefused(data as unknown as Parameters<ServeReport["clientRefused"]>[0]);
        break;
      case "JOURNAL_FAILED":
        report.journalFailed(data as unknown as Parameters<ServeReport["journalFailed"]>[0]);
        break;
      case "THREAD_DIED":
        report.threadDied(String(data.reason));
    }
  }
}
