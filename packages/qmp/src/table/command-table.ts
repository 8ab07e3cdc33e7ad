/** Every command: one table, from which validation, introspection, types and the reference page come. */
import type { CommandTable } from "../schema/type.ts";
import { actorCommands } from "./actors.ts";
import { backupCommands } from "./backup.ts";
import { bitmapCommands } from "./bitmaps.ts";
import { chardevCommands } from "./chardevs.ts";
import { exportCommands } from "./exports.ts";
import { jobCommands } from "./jobs.ts";
import { monitorCommands } from "./monitor.ts";
import { nodeCommands } from "./nodes.ts";
import { objectCommands } from "./objects.ts";

export { events } from "./events.ts";

/** In chapters, as the reference page shows them. */
export const chapters: Readonly<Record<string, CommandTable>> = {
  Monitor: monitorCommands,
  Nodes: nodeCommands,
  "Dirty bitmaps": bitmapCommands,
  "Backups and transactions": backupCommands,
  Jobs: jobCommands,
  Exports: exportCommands,
  Objects: objectCommands,
  "Character devices": chardevCommands,
  "Heirloom's own": actorCommands,
};

export const commands: CommandTable = Object.assign({}, ...Object.values(chapters)) as CommandTable;
