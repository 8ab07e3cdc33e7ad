/**
 * The daemon's options, as getopt reads them: long ones by any part of their name that is no other's, values after `=` or
 * as the next word, `--` before what is no option. Two passes over them: what concerns the process first, then all others
 * strictly from left to right, so that what is used was defined before.
 */

/** An option that takes effect in the second pass. */
export type OptionName = "blockdev" | "chardev" | "export" | "metrics" | "monitor" | "nbd-server" | "object";

export interface Option {
  readonly name: OptionName;
  readonly value: string;
  /** As it was written: what an error message begins with. */
  readonly written: string;
}

export interface ParsedArguments {
  readonly help: boolean;
  readonly version: boolean;
  readonly daemonize: boolean;
  readonly pidfile: string | undefined;
  /** As it was given: where persistent bitmaps are kept. */
  readonly journal: string | undefined;
  readonly logFormat: "text" | "json";
  readonly options: readonly Option[];
}

/** What is wrong with the command line; the message is the whole line but for the program's name. */
export class UsageError extends Error {
  override readonly name: string = "UsageError";
}

const withValue: Readonly<Record<string, OptionName | "journal" | "pidfile" | "trace" | "log-format">> = {
  blockdev: "blockdev",
  chardev: "chardev",
  export: "export",
  journal: "journal",
  "log-format": "log-format",
  metrics: "metrics",
  monitor: "monitor",
  "nbd-server": "nbd-server",
  object: "object",
  pidfile: "pidfile",
  trace: "trace",
};
const flags: readonly string[] = ["daemonize", "help", "version"];
const shortOptions: Readonly<Record<string, string>> = { h: "help", T: "trace", V: "version" };

/** All long ones, for whoever completes them. */
export function longOptions(): readonly string[] {
  return [...Object.keys(withValue), ...flags].sort();
}

/** @throws UsageError */
export function parseArguments(words: readonly string[]): ParsedArguments {
  const options: Option[] = [];
  const given = new Set<string>();
  let pidfile: string | undefined;
  let journal: string | undefined;
  let logFormat: "text" | "json" = "text";
  const queue = [...words];
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    if (word === "--") break;
    const { name, value, written } = readWord(word, queue);
    given.add(name);
    if (name === "pidfile") pidfile = value;
    else if (name === "journal") journal = value;
    else if (name === "log-format") logFormat = readLogFormat(value, written);
    else if (name !== "trace" && !flags.includes(name)) options.push({ name: name as OptionName, value, written });
  }
  return {
    help: given.has("help"),
    version: given.has("version"),
    daemonize: given.has("daemonize"),
    pidfile,
    journal,
    logFormat,
    options,
  };
}

function readWord(word: string, rest: string[]): { name: string; value: string; written: string } {
  if (!word.startsWith("-") || word === "-") throw new UsageError(`${word}: Unexpected argument`);
  if (!word.startsWith("--")) return readShort(word, rest);
  const equals = word.indexOf("=");
  const typed = equals < 0 ? word.slice(2) : word.slice(2, equals);
  const name = findLong(typed);
  if (flags.includes(name)) {
    if (equals >= 0) throw new UsageError(`option '--${name}' doesn't allow an argument`);
    return { name, value: "", written: word };
  }
  if (equals >= 0) return { name, value: word.slice(equals + 1), written: word };
  const value = rest.shift();
  if (value === undefined) throw new UsageError(`option '--${name}' requires an argument`);
  return { name, value, written: `${word} ${value}` };
}

function findLong(typed: string): string {
  const names = [...Object.keys(withValue), ...flags];
  if (names.includes(typed)) return typed;
  const fitting = names.filter((name) => name.startsWith(typed));
  if (fitting.length === 1) return fitting[0];
  if (fitting.length === 0) throw new UsageError(`unrecognized option '--${typed}'`);
  const possibilities = fitting.map((name) => `'--${name}'`).join(" ");
  throw new UsageError(`option '--${typed}' is ambiguous; possibilities: ${possibilities}`);
}

function readShort(word: string, rest: string[]): { name: string; value: string; written: string } {
  const letter = word[1];
  const name = Object.hasOwn(shortOptions, letter) ? shortOptions[letter] : undefined;
  if (name === undefined) throw new UsageError(`invalid option -- '${letter}'`);
  if (name !== "trace") {
    if (word.length > 2) rest.unshift(`-${word.slice(2)}`);
    return { name, value: "", written: word };
  }
  const value = word.length > 2 ? word.slice(2) : rest.shift();
  if (value === undefined) throw new UsageError(`option requires an argument -- '${letter}'`);
  return { name, value, written: word };
}

function readLogFormat(value: string, written: string): "text" | "json" {
  if (value === "text" || value === "json") return value;
  throw new UsageError(`${written}: Parameter 'log-format' does not accept value '${value}'`);
}
