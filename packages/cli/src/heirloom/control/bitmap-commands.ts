/** The command line of `heirloom bitmap`. */
import { buildCommand, buildRouteMap, type Command, type CommandContext, type RouteMap } from "@stricli/core";
import { UsageError } from "../command-error.ts";
import { parseGranularity } from "../serve/bitmap-argument.ts";
import { aboutControl, type ControlFlags, controlFlags } from "./control-flags.ts";
import { proposeNodes } from "./propose.ts";

export interface AddFlags extends ControlFlags {
  readonly granularity?: number;
  readonly disabled?: boolean;
  readonly persistent?: boolean;
}

export interface MergeFlags extends ControlFlags {
  readonly from?: string;
}

export type Verb = "remove" | "clear" | "enable" | "disable";

const node = { brief: "The disk: a node's name", placeholder: "NODE", parse: String, proposeCompletions: proposeNodes };
const bitmapName = { brief: "The bitmap's name", placeholder: "NAME", parse: parseName };

function parseName(text: string): string {
  if (text === "") throw new UsageError("expected the name of a bitmap, and it is empty");
  return text;
}

const list: Command<CommandContext> = buildCommand<ControlFlags, [string?]>({
  docs: {
    brief: "Bitmaps: what they say, and whether they record",
    fullDescription: `Lists the bitmaps of NODE, or of all nodes.\n\n${aboutControl}`,
  },
  parameters: {
    positional: { kind: "tuple", parameters: [{ ...node, optional: true }] },
    flags: controlFlags,
  },
  loader: async () => (await import("./run-bitmap.ts")).runList,
});

const add: Command<CommandContext> = buildCommand<AddFlags, [string, string]>({
  docs: {
    brief: "Add one: it says what changes from now on",
    fullDescription: `Adds a bitmap. It begins clean and says what changes from now on, so the first backup with it is a full one:
'heirloom backup NODE TARGET --bitmap NAME' takes it, and the bitmap begins anew with that.\n\n${aboutControl}`,
  },
  parameters: {
    positional: { kind: "tuple", parameters: [node, bitmapName] },
    flags: {
      granularity: {
        kind: "parsed",
        parse: parseGranularity,
        optional: true,
        brief: "Bytes that one bit stands for (default 64k)",
        placeholder: "SIZE",
      },
      disabled: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "It does not record until it is enabled",
      },
      persistent: { kind: "boolean", optional: true, withNegated: false, brief: "Keep it with the disk" },
      ...controlFlags,
    },
    aliases: { g: "granularity" },
  },
  loader: async () => (await import("./run-bitmap.ts")).runAdd,
});

function change(verb: Verb, brief: string): Command<CommandContext> {
  return buildCommand<ControlFlags, [string, string]>({
    docs: { brief, fullDescription: `${brief}.\n\n${aboutControl}` },
    parameters: { positional: { kind: "tuple", parameters: [node, bitmapName] }, flags: controlFlags },
    loader: async () => (await import("./run-bitmap.ts")).runChange(verb),
  });
}

const merge: Command<CommandContext> = buildCommand<MergeFlags, string[]>({
  docs: {
    brief: "Join what others say into one",
    fullDescription: `Joins what the bitmaps SOURCE say into NAME, all or none. Granularities may differ, lengths may not.\n\n${aboutControl}`,
    customUsage: ["NODE NAME SOURCE... [--from NODE] [options]"],
  },
  parameters: {
    positional: {
      kind: "array",
      minimum: 3,
      parameter: {
        brief: "The node, the bitmap, those that are joined into it",
        placeholder: "NODE NAME SOURCE",
        parse: parseName,
      },
    },
    flags: {
      from: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "The sources are of this node",
        placeholder: "NODE",
      },
      ...controlFlags,
    },
  },
  loader: async () => (await import("./run-bitmap.ts")).runMerge,
});

export const bitmapCommands: RouteMap<CommandContext> = buildRouteMap({
  routes: {
    list,
    add,
    remove: change("remove", "Remove one that nobody uses"),
    clear: change("clear", "Forget what it says: it begins anew"),
    enable: change("enable", "Record from now on"),
    disable: change("disable", "Do not record from now on, and keep what it says"),
    merge,
  },
  docs: { brief: "Dirty bitmaps of served disks: list, add, remove, clear, enable, disable, merge" },
});
