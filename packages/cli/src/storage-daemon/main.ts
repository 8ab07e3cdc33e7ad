#!/usr/bin/env node
/** The program: the first pass over its options, then what they ask for. */
import type { JournalOptions } from "@heirloom/runtime";
import { parseArguments, type ParsedArguments, UsageError } from "./arguments.ts";

const program = "heirloom-storage-daemon";

function fail(message: string): never {
  process.stderr.write(`${program}: ${message}\n`);
  process.exit(1);
}

async function main(): Promise<void> {
  let given: ParsedArguments;
  try {
    given = parseArguments(process.argv.slice(2));
  } catch (error) {
    if (error instanceof UsageError) fail(error.message);
    throw error;
  }
  // Each is imported where it is needed: who only asks for the version does not wait for a runtime.
  if (given.help) {
    const { helpText } = await import("./help.ts");
    process.stdout.write(helpText(program));
    return;
  }
  if (given.version) {
    const { versionText } = await import("./version-text.ts");
    process.stdout.write(versionText(program));
    return;
  }
  const { describeObjects } = await import("./object-help.ts");
  for (const { name, value } of given.options) {
    const text = name === "object" ? describeObjects(value) : undefined;
    if (text === undefined) continue;
    process.stdout.write(text);
    return;
  }
  let journal: JournalOptions | undefined;
  if (given.journal !== undefined) {
    const { readJournal } = await import("./journal-options.ts");
    try {
      journal = readJournal(given.journal);
    } catch (error) {
      if (error instanceof UsageError) fail(error.message);
      throw error;
    }
  }
  const { isBackground, startInBackground } = await import("./daemonize.ts");
  if (given.daemonize && !isBackground()) {
    process.exitCode = await startInBackground();
    return;
  }
  const { serve } = await import("./serve.ts");
  await serve(program, given, journal);
}

await main();
