/** `heirloom pull`: from the parsed command line to a copy that is on stable storage, or to nothing at all. */
import { exitNow } from "@heirloom/block";
import { bitmapContext, NbdClient, type NbdUri, pull, type PullResult } from "@heirloom/nbd";
import { CommandError, EXIT_FAILURE } from "../command-error.ts";
import { refuseExisting } from "../new-file.ts";
import { StopSignals } from "../stop-signals.ts";
import type { ProgressDisplay } from "../terminal/progress-display.ts";
import { openTarget } from "./pull-target.ts";

export interface PullRequest {
  readonly source: NbdUri;
  readonly path: string;
  readonly bitmap: string | undefined;
  /** TARGET is there, and is brought up to date. */
  readonly update: boolean;
  readonly connections: number;
}

export interface Pulled extends PullResult {
  readonly seconds: number;
  /** Somebody can write to the export meanwhile: the copy may be of no single instant. */
  readonly writable: boolean;
}

/** @throws CommandError, NbdError, BlockError */
export async function pullToFile(request: PullRequest, progress: ProgressDisplay): Promise<Pulled> {
  const ending = new AbortController();
  const signals = new StopSignals();
  void signals.next().then(async (signal) => {
    ending.abort(new CommandError(`stopped by ${signal}`));
    await signals.next();
    exitNow(EXIT_FAILURE); // the target hangs
  });
  try {
    return await copy(request, progress, ending.signal);
  } finally {
    progress.end();
    signals[Symbol.dispose]();
  }
}

async function copy(request: PullRequest, progress: ProgressDisplay, signal: AbortSignal): Promise<Pulled> {
  const { source, path, bitmap, update, connections } = request;
  if (!update) refuseExisting(path);
  const begun = performance.now();
  const { length, writable } = await look(source, bitmap, signal);
  const target = await openTarget({ path, length, update, changes: bitmap !== undefined });
  try {
    const result = await pull({
      source,
      target: target.sink,
      connections,
      signal,
      onProgress: (state) => progress.show(state),
      ...(bitmap === undefined ? {} : { bitmap }),
    });
    if (result.length !== length) {
      throw new CommandError(`the export had ${length} bytes, and has ${result.length} by now`, ["Begin again."]);
    }
    await target.finish();
    return { ...result, seconds: (performance.now() - begun) / 1000, writable };
  } catch (error) {
    await target.abandon();
    if (!update) throw error;
    throw new CommandError(
      error instanceof Error ? error.message : String(error),
      [`'${path}' is partly updated: it is no copy of any instant until a pull with the same bitmap succeeds.`],
      { cause: error },
    );
  }
}

/** What there is, before anything is made. @throws NbdError, CommandError */
async function look(
  source: NbdUri,
  bitmap: string | undefined,
  signal: AbortSignal,
): Promise<{ length: number; writable: boolean }> {
  const context = bitmap === undefined ? undefined : bitmapContext(bitmap);
  await using client = await NbdClient.connect(source, { signal, contexts: context === undefined ? [] : [context] });
  if (context !== undefined && !client.contexts.includes(context)) {
    throw new CommandError(`the export '${client.export.name}' has no bitmap '${bitmap}' (context ${context})`, [
      "'nbdinfo URI' lists the contexts that it has. Without --bitmap all of it is pulled.",
    ]);
  }
  return { length: client.length, writable: !client.features.readOnly };
}
