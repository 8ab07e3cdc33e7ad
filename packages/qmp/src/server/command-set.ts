/** What a monitor can be asked: the table of commands and who carries them out. */
import type { QmpCommands } from "../generated/qmp-types.ts";
import { QmpError } from "../qmp-error.ts";
import { readArguments } from "../schema/read-value.ts";
import type { CommandTable } from "../schema/type.ts";
import type { Writable } from "../wire/json-value.ts";
import type { Request } from "../wire/request.ts";

export type CommandName = keyof QmpCommands;

/** Who carries a command out. May throw a `QmpError`; anything else is told as a GenericError. */
export type Handler<Name extends CommandName> = (
  args: QmpCommands[Name]["arguments"],
) => QmpCommands[Name]["result"] | Promise<QmpCommands[Name]["result"]>;

/** All but the one that a session answers itself. */
export type Handlers = { readonly [Name in Exclude<CommandName, "qmp_capabilities">]: Handler<Name> };

export class CommandSet {
  readonly table: CommandTable;
  readonly #handlers: Readonly<Partial<Record<string, (args: never) => unknown>>>;

  constructor(table: CommandTable, handlers: Partial<Handlers>) {
    this.table = table;
    this.#handlers = handlers;
  }

  /** @returns the value of `return` @throws QmpError */
  run(request: Request): Writable | Promise<Writable> {
    const { command: name } = request;
    const entry = Object.hasOwn(this.table, name) ? this.table[name] : undefined;
    const handler = Object.hasOwn(this.#handlers, name) ? this.#handlers[name] : undefined;
    if (entry === undefined || handler === undefined) {
      throw new QmpError(`The command ${name} has not been found`, "CommandNotFound");
    }
    if (request.outOfBand) throw new QmpError(`The command ${name} does not support OOB`);
    return handler(readArguments(entry.arguments, request.arguments) as never) as Writable | Promise<Writable>;
  }

  /** A command of our own, with arguments that were read before. @throws QmpError */
  async carryOut(name: string, args: Record<string, unknown>): Promise<void> {
    const handler = Object.hasOwn(this.#handlers, name) ? this.#handlers[name] : undefined;
    if (handler === undefined) throw new QmpError(`The command ${name} has not been found`, "CommandNotFound");
    await handler(args as never);
  }
}
