import { introspect, type SchemaEntry } from "../schema/introspection.ts";
import type { CommandTable } from "../schema/type.ts";
import type { QmpCommands } from "../generated/qmp-types.ts";
import type { Handlers } from "../server/command-set.ts";
import { events } from "../table/command-table.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<Handlers, "query-version" | "query-commands" | "query-qmp-schema" | "quit">;

/** @param table the commands that there are: those without a handler are not told of */
export function monitorHandlers(context: CommandContext, table: () => CommandTable): Family {
  let schema: readonly SchemaEntry[] | undefined;
  return {
    "query-version": () => {
      const { qemu, package: name } = context.version;
      return { qemu: { major: qemu.major, minor: qemu.minor, micro: qemu.micro }, package: name };
    },
    "query-commands": () => Object.keys(table()).map((name) => ({ name })),
    "query-qmp-schema": () =>
      (schema ??= introspect(table(), events)) as unknown as QmpCommands["query-qmp-schema"]["result"],
    quit: () => {
      context.quit();
      return {};
    },
  };
}
