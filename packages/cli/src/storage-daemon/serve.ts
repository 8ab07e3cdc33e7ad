/** From the second pass over the options to the end of the process. */
import { unlinkSync, writeFileSync } from "node:fs";
import { resolve as resolvePath } from "node:path";
import { errnoSentence } from "@heirloom/qmp";
import type { JournalOptions } from "@heirloom/runtime";
import { textOf } from "../keyval/keyval.ts";
import type { ParsedArguments } from "./arguments.ts";
import { Daemon, shutdownDeadlineMs } from "./daemon.ts";
import { tellReady } from "./daemonize.ts";
import { openLog } from "./log.ts";

/** @param journal where persistent bitmaps are kept */
export async function serve(
  program: string,
  given: ParsedArguments,
  journal: JournalOptions | undefined,
): Promise<void> {
  const log = await openLog(given.logFormat, program);
  let end: (reason: string) => void = () => {};
  const ended = new Promise<string>((resolve) => (end = resolve));
  const daemon = new Daemon(log, () => end("quit"), journal);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => end(signal));
  // Nothing else may be alive: a daemon without a monitor and without exports waits for its signal all the same.
  const alive = setInterval(() => {}, 2 ** 30);
  for (const option of given.options) {
    try {
      await daemon.apply(option);
    } catch (error) {
      log.error(`${option.written}: ${textOf(error)}`);
      await shutDown(daemon, 1);
    }
  }
  if (given.pidfile !== undefined) {
    try {
      writeFileSync(given.pidfile, `${process.pid}\n`, { mode: 0o644 });
    } catch (error) {
      log.error(`cannot create PID file: Could not create '${given.pidfile}': ${errnoSentence(error)}`);
      await shutDown(daemon, 1);
    }
  }
  // By a name that holds elsewhere, too: it is removed from where the background leaves us.
  const pidfile = given.pidfile === undefined ? undefined : resolvePath(given.pidfile);
  daemon.open();
  tellReady();
  await ended;
  clearInterval(alive);
  await shutDown(daemon, 0, pidfile);
}

/** Ends the process: when all has ended as it should, or at the deadline. */
async function shutDown(daemon: Daemon, status: number, pidfile?: string): Promise<never> {
  const deadline = setTimeout(() => void leaveWhateverHangs(status, pidfile), shutdownDeadlineMs);
  try {
    await daemon.close();
  } catch (error) {
    process.stderr.write(`${String(error)}\n`);
  }
  // A thread may hang all the same, and is left behind.
  if (daemon.hasThreads) await leaveWhateverHangs(status, pidfile);
  clearTimeout(deadline);
  return leave(status, pidfile);
}

/** `process.exit` waits for threads that sit in a system call; this does not. */
async function leaveWhateverHangs(status: number, pidfile: string | undefined): Promise<void> {
  const { exitNow } = await import("@heirloom/block");
  removePidfile(pidfile);
  exitNow(status);
}

function leave(status: number, pidfile: string | undefined): never {
  removePidfile(pidfile);
  process.exit(status);
}

function removePidfile(pidfile: string | undefined): void {
  if (pidfile !== undefined) {
    try {
      unlinkSync(pidfile);
    } catch {
      // somebody else has removed it
    }
  }
}
