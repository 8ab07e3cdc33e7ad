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

type AnyHandlers = Readonly<Partial<Record<string, (args: never) => unknown>>>;

export class CommandSet {
  readonly table: CommandTable;
  readonly #immediate: AnyHandlers;
  readonly #load: () => Promise<Partial<Handlers>>;
  #loaded: AnyHandlers | undefined;
  /** Once: handlers keep state, and two commands may come before they are there. */
  #loading: Promise<Partial<Handlers>> | undefined;

  /** @param load the handlers that are not `immediate`: called when the first of them is needed */
  constructor(
    table: CommandTable,
    immediate: Partial<Handlers>,
    load: () => Promise<Partial<Handlers>> = async () => ({}),
  ) {
    this.table = table;
    this.#immediate = immediate;
    this.#load = load;
  }

  /** @returns the value of `return` @throws QmpError */
  run(request: Request): Writable | Promise<Writable> {
    const { command: name } = request;
    const entry = Object.hasOwn(this.table, name) ? this.table[name] : undefined;
    if (entry === undefined) throw notFound(name);
    if (request.outOfBand) throw new QmpError(`The command ${name} does not support OOB`);
    return this.carryOut(name, readArguments(entry.arguments, request.arguments));
  }

  /** With arguments that were read before. @throws QmpError */
  carryOut(name: string, args: Record<string, unknown>): Writable | Promise<Writable> {
    const handlers = Object.hasOwn(this.#immediate, name) ? this.#immediate : this.#loaded;
    if (handlers === undefined) return this.#loadAndCarryOut(name, args);
    const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined;
    if (handler === undefined) throw notFound(name);
    return handler(args as never) as Writable | Promise<Writable>;
  }

  async #loadAndCarryOut(name: string, args: Record<string, unknown>): Promise<Writable> {
    this.#loading ??= this.#load();
    this.#loaded = await this.#loading;
    return this.carryOut(name, args);
  }
}

function notFound(name: string): QmpError {
  return new QmpError(`The command ${name} has not been found`, "CommandNotFound");
}
