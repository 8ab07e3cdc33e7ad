/** The command line of `heirloom pull`. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { UsageError } from "../command-error.ts";

export interface PullFlags {
  readonly bitmap?: string;
  readonly update?: boolean;
  readonly connections?: number;
  readonly json?: boolean;
}

export const CONNECTIONS_DEFAULT = 4;

export const pullCommand: Command<CommandContext> = buildCommand<PullFlags, [string, string]>({
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
          parse: String,
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
  loader: async () => (await import("./run-pull.ts")).runPull,
});

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
