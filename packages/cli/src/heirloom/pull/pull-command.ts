/** The command line of `heirloom pull`. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { formatNbdUri, NbdError, type NbdUri, parseNbdUri } from "@heirloom/nbd";
import { UsageError } from "../command-error.ts";
import { formatBytes } from "../sizes.ts";
import { paintFor } from "../terminal/colours.ts";
import { Screen } from "../terminal/screen.ts";
import { type Pulled, pullToFile, type PullRequest } from "./pull.ts";
import { ProgressDisplay } from "./pull-progress.ts";

interface PullFlags {
  readonly bitmap?: string;
  readonly update?: boolean;
  readonly connections?: number;
  readonly json?: boolean;
}

const CONNECTIONS_DEFAULT = 4;

export const pullCommand: Command<CommandContext> = buildCommand<PullFlags, [NbdUri, string], CommandContext>({
  docs: {
    brief: "Copy an NBD export into a raw file: all of it, or what a bitmap says changed",
    fullDescription: `Copies an NBD export, of whatever server, into TARGET, a raw file. A new TARGET is written as TARGET.partial
and gets its name when it is whole and on stable storage.

  without --bitmap   all of it, into a new file with holes where it reads as zeroes
  --bitmap NAME      what the dirty bitmap NAME says (QEMU's, Heirloom's; or the full name of another context
                     whose bit 0 says dirty), into a new file: its data is what changed, its holes what did not
  --update           into a TARGET that is there, a file or a block device: what is pulled is overwritten in
                     place. With --bitmap that brings an older copy up to date

The copy is of one instant if the export stands still: a point in time, or a disk that nobody writes.

Examples:
  heirloom pull 'nbd+unix:///vm.raw?socket=/run/vm.sock' monday.raw
  heirloom pull 'nbd+unix:///vm.raw?socket=/run/vm.sock' tuesday-changes.raw --bitmap daily
  heirloom pull 'nbd+unix:///vm.raw?socket=/run/vm.sock' monday.raw --bitmap daily --update
  heirloom pull 'nbds://backup@vmhost/vm1?tls-psk-file=keys.psk' vm1.raw --json

Exit status: 0, 1 after a failure (a new TARGET is not there then), 2 where the command line makes no sense.`,
    customUsage: ["URI TARGET [--bitmap NAME] [--update] [options]"],
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        {
          brief: "nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, nbds://...",
          placeholder: "URI",
          parse: parseUri,
        },
        { brief: "Raw file that is made, or brought up to date", placeholder: "TARGET", parse: parseTarget },
      ],
    },
    flags: {
      bitmap: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "Only what this dirty bitmap says",
        placeholder: "NAME",
      },
      update: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "TARGET is there: overwrite what is pulled",
      },
      connections: {
        kind: "parsed",
        parse: parseConnections,
        optional: true,
        brief: `Connections, where the server allows several (default ${CONNECTIONS_DEFAULT})`,
        placeholder: "N",
      },
      json: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "Print the result as JSON, extents included",
      },
    },
    aliases: { b: "bitmap", u: "update" },
  },
  func: runPull,
});

async function runPull(this: CommandContext, flags: PullFlags, source: NbdUri, path: string): Promise<void> {
  const { bitmap, update = false, connections = CONNECTIONS_DEFAULT, json = false } = flags;
  if (bitmap === "") throw new UsageError("--bitmap: expected a name, and it is empty");
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

function parseTarget(text: string): string {
  if (text === "") throw new UsageError("expected the path of a file, and it is empty");
  if (/^nbds?(\+unix)?:/.test(text)) throw new UsageError(`'${text}' is a URI; expected the path of a file`);
  return text;
}

function parseConnections(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= 16) return count;
  throw new UsageError(`'${text}' is no number of connections; expected 1 to 16`);
}
