/** What a command ends with when it cannot do what was asked for: a sentence, and what to do next. */

export const EXIT_FAILURE = 1;
/** The command line makes no sense; nothing was tried. */
export const EXIT_USAGE = 2;

export class CommandError extends Error {
  /** What to do next, a line each. */
  readonly hints: readonly string[];
  readonly exitCode: number;

  constructor(message: string, hints: readonly string[] = [], options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "CommandError";
    this.hints = hints;
    this.exitCode = options.exitCode ?? EXIT_FAILURE;
  }
}

/** The command line makes no sense. */
export class UsageError extends CommandError {
  constructor(message: string, ...hints: readonly string[]) {
    super(message, hints, { exitCode: EXIT_USAGE });
    this.name = "UsageError";
  }
}
