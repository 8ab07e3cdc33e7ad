/** Every command that works on the runtime. */
import { actorHandlers } from "./actor-handlers.ts";
import type { Handlers } from "../server/command-set.ts";
import { backupHandlers } from "./backup-handlers.ts";
import { bitmapHandlers } from "./bitmap-handlers.ts";
import type { CommandContext } from "./context.ts";
import { exportHandlers } from "./export-handlers.ts";
import { jobHandlers } from "./job-handlers.ts";
import { nodeHandlers } from "./node-handlers.ts";
import { objectHandlers } from "./object-handlers.ts";

export function contextHandlers(context: CommandContext): Partial<Handlers> {
  return {
    ...nodeHandlers(context),
    ...bitmapHandlers(context),
    ...backupHandlers(context),
    ...jobHandlers(context),
    ...exportHandlers(context),
    ...objectHandlers(context),
    ...actorHandlers(context),
  };
}
