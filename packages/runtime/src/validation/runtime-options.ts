/** What `createRuntime` is given, held against what it can be before anything is made of it. */
import { refusal, RefusalError } from "../errors.ts";
import type { RuntimeOptions } from "../options.ts";
import { guestDelayFor, spillRanges } from "../spill-options.ts";

const operation = "create runtime";
/** A timer of Node's that is longer fires at once. */
const timerMost = 2 ** 31 - 1;

/** Of the numbers the least and the most; whole ones, but for times. */
const engineRanges = {
  threadsMax: [1, 1024],
  helpersMax: [1, 1024],
  ioThreadsMax: [1, 1024],
  idleTimeoutMs: [0, timerMost],
} as const;

/** @throws RefusalError that names the option and says what was expected */
export function checkRuntimeOptions(options: RuntimeOptions): void {
  if (!isObject(options)) refuse("options", "an object", options);
  const { engine, spill, now, observeFreeze, freezeDeadlineMs, guestDelayMax } = options;
  if (engine !== undefined && !isObject(engine)) refuse("engine", "an object", engine);
  for (const [name, [least, most]] of Object.entries(engineRanges)) {
    const value = engine?.[name as keyof typeof engineRanges];
    if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) continue;
    refuse(`engine.${name}`, `a whole number from ${least} to ${most}`, value);
  }
  if (spill !== undefined && !isObject(spill)) refuse("spill", "an object", spill);
  spillRanges(operation, spill ?? {});
  guestDelayFor(operation, guestDelayMax);
  if (freezeDeadlineMs !== undefined && !(typeof freezeDeadlineMs === "number" && freezeDeadlineMs >= 0))
    refuse("freezeDeadlineMs", "milliseconds, 0 or more", freezeDeadlineMs);
  for (const [name, value] of Object.entries({ now, observeFreeze })) {
    if (value !== undefined && typeof value !== "function") refuse(name, "a function", value);
  }
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refuse(option: string, expected: string, value: unknown): never {
  const desc = `Option '${option}' must be ${expected}, not ${String(value)}`;
  throw new RefusalError(operation, refusal("ERR_INVALID_ARGUMENT", desc, { option, value: String(value) }));
}
