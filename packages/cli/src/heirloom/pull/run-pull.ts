/** `heirloom pull` with its command line parsed, and what it prints. */
import { formatNbdUri, NbdError, type NbdUri, parseNbdUri } from "@heirloom/nbd";
import type { CommandContext } from "@stricli/core";
import { UsageError } from "../command-error.ts";
import { formatBytes } from "../sizes.ts";
import { paintFor } from "../terminal/colours.ts";
import { Screen } from "../terminal/screen.ts";
import { type Pulled, pullToFile, type PullRequest } from "./pull.ts";
import { CONNECTIONS_DEFAULT, type PullFlags } from "./pull-command.ts";
import { ProgressDisplay } from "../terminal/progress-display.ts";

export async function runPull(this: CommandContext, flags: PullFlags, uri: string, path: string): Promise<void> {
  const { bitmap, update = false, connections = CONNECTIONS_DEFAULT, json = false } = flags;
  if (bitmap === "") throw new UsageError("--bitmap: expected a name, and it is empty");
  const source = parseUri(uri);
  const request = { source, path, bitmap, update, connections };
  const errors = new Screen(process.stderr);
  const pulled = await pullToFile(request, new ProgressDisplay(errors, paintFor(process.stderr)));
  const screen = new Screen(process.stdout);
  screen.print(json ? asJson(request, pulled) : asText(request, pulled));
  if (pulled.writable && !json) {
    const note = "The export is writable: if anybody wrote to it meanwhile, the copy is of no single instant.";
    errors.print(paintFor(process.stderr)("yellow", note));
  }
}

function asText({ path, bitmap }: PullRequest, { length, bytesCopied, bytesZeroed, seconds }: Pulled): string {
  const what = bitmap === undefined ? `all of ${formatBytes(length)}` : `what ${bitmap} says of ${formatBytes(length)}`;
  const rate = `${formatBytes(bytesCopied / Math.max(seconds, 0.001))}/s`;
  const took = `${seconds.toFixed(1)} s, ${rate}`;
  return `${path}: ${what}: ${formatBytes(bytesCopied)} of data, ${formatBytes(bytesZeroed)} of zeroes (${took})`;
}

function asJson({ source, path, bitmap, update }: PullRequest, pulled: Pulled): string {
  const { length, bytesCopied, bytesZeroed, extents, seconds, writable } = pulled;
  const what = { source: formatNbdUri(source), target: path, bitmap: bitmap ?? null, update };
  return JSON.stringify({ ...what, length, bytesCopied, bytesZeroed, seconds, sourceWritable: writable, extents });
}

function parseUri(text: string): NbdUri {
  try {
    return parseNbdUri(text);
  } catch (error) {
    if (error instanceof NbdError) throw new UsageError(error.message);
    throw error;
  }
}
