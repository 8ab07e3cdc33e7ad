import type { QmpCommands, VersionInfo } from "../generated/qmp-types.ts";
import { introspect, type SchemaEntry } from "../schema/introspection.ts";
import type { CommandTable } from "../schema/type.ts";
import type { Handlers } from "../server/command-set.ts";
import { events } from "../table/command-table.ts";

type Family = Pick<Handlers, "query-version" | "query-commands" | "query-qmp-schema" | "quit">;

export function monitorHandlers(version: VersionInfo, table: CommandTable, quit: () => void): Family {
  let schema: readonly SchemaEntry[] | undefined;
  const { qemu, package: name } = version;
  return {
    // Member by member: their order decides the order on the wire.
    "query-version": () => ({ qemu: { major: qemu.major, minor: qemu.minor, micro: qemu.micro }, package: name }),
    "query-commands": () => Object.keys(table).map((command) => ({ name: command })),
    "query-qmp-schema": () =>
      (schema ??= introspect(table, events)) as unknown as QmpCommands["query-qmp-schema"]["result"],
    quit: () => {
      quit();
      return {};
    },
  };
}
