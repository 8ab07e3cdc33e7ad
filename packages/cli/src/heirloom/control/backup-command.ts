/** The command line of `heirloom backup`. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { UsageError } from "../command-error.ts";
import { parseBytes } from "../sizes.ts";
import { aboutControl, type ControlFlags, controlFlags } from "./control-flags.ts";
import { proposeNodes } from "./propose.ts";

export const SYNCS = ["full", "top", "incremental", "bitmap"] as const;
export const BITMAP_MODES = ["on-success", "never", "always"] as const;

export interface BackupFlags extends ControlFlags {
  readonly bitmap?: string;
  readonly update?: boolean;
  readonly sync?: (typeof SYNCS)[number];
  readonly bitmapMode?: (typeof BITMAP_MODES)[number];
  readonly speed?: number;
  readonly job?: string;
  readonly resumable?: boolean;
  readonly syncSpill?: boolean;
}

export const backupCommand: Command<CommandContext> = buildCommand<BackupFlags, [string, string]>({
  docs: {
    brief: "Back a served disk up: all of it, or what a bitmap says changed",
    fullDescription: `Copies the disk NODE, as it is at the instant when this begins, into TARGET, while its guest goes on writing.

  new TARGET     a raw file, written as TARGET.partial, that gets its name when it is whole. All of the disk; with
                 --bitmap NAME the bitmap begins anew with it
  --update       TARGET is there, an older copy: with --bitmap NAME it gets what the bitmap says changed since,
                 without it everything
  a node's name  where there is a node of that name, TARGET is that node (./NAME is a file for certain)

If it succeeds, the bitmap says from then on what was written since the instant. If it fails or is cancelled, the
bitmap is reclaimed: nothing is forgotten, and the next one catches up. Ctrl-C cancels it; a second one leaves, and
the job ends by itself. The paths are those of the machine: who is driven opens them.

With --resumable, which needs a persistent bitmap, a backup that is cut off by the end of who runs it waits, paused,
until 'heirloom resume' goes on with its point in time. After a power loss under load it usually cannot, and its
bitmap is reclaimed; with --sync-spill it always can, for a sync at the guest's first write to each cluster.

Examples:
  heirloom backup vm.raw monday.raw --bitmap daily
  heirloom backup vm.raw monday.raw --bitmap daily --update
  heirloom backup vm.raw copy.raw --speed 50M --json
  heirloom backup vm.raw monday.raw --bitmap daily --resumable

${aboutControl}`,
    customUsage: ["NODE TARGET [--bitmap NAME] [--update] [--sync MODE] [options]"],
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        { brief: "The disk: a node's name", placeholder: "NODE", parse: String, proposeCompletions: proposeNodes },
        { brief: "Raw file, block device, or a node's name", placeholder: "TARGET", parse: parseTarget },
      ],
    },
    flags: {
      bitmap: {
        kind: "parsed",
        parse: parseBitmapName,
        optional: true,
        brief: "The bitmap that it is by",
        placeholder: "NAME",
      },
      update: { kind: "boolean", optional: true, withNegated: false, brief: "TARGET is there: bring it up to date" },
      sync: { kind: "enum", values: SYNCS, optional: true, brief: "What is copied (default: see above)" },
      bitmapMode: {
        kind: "enum",
        values: BITMAP_MODES,
        optional: true,
        brief: "When the bitmap begins anew (default on-success)",
      },
      speed: {
        kind: "parsed",
        parse: parseSpeed,
        optional: true,
        brief: "Bytes a second at most",
        placeholder: "SIZE",
      },
      job: {
        kind: "parsed",
        parse: parseJob,
        optional: true,
        brief: "The job's id (default backup-N)",
        placeholder: "JOB",
      },
      resumable: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "It goes on after a restart: heirloom resume",
      },
      syncSpill: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "With --resumable: after every power loss too",
      },
      ...controlFlags,
    },
    aliases: { b: "bitmap", u: "update" },
  },
  loader: async () => (await import("./run-backup.ts")).runBackup,
});

function parseTarget(text: string): string {
  if (text === "") throw new UsageError("expected the path of a file, or a node's name, and it is empty");
  if (/^nbds?(\+unix)?:/.test(text)) {
    throw new UsageError(
      `'${text}' is a URI; expected the path of a file, or a node's name`,
      "Make it a node first (QMP's blockdev-add, driver nbd), or pull from the other side: heirloom pull.",
    );
  }
  return text;
}

function parseBitmapName(text: string): string {
  if (text === "") throw new UsageError("expected the name of a bitmap, and it is empty");
  return text;
}

function parseJob(text: string): string {
  if (/^[A-Za-z][A-Za-z0-9._-]*$/.test(text)) return text;
  throw new UsageError(`'${text}' is no id; expected a letter, then letters, digits, '-', '.' and '_'`);
}

export function parseSpeed(text: string): number {
  const bytes = parseBytes(text);
  if (bytes !== undefined && bytes > 0) return bytes;
  throw new UsageError(`'${text}' is no speed; expected bytes a second, as in 50M`);
}
