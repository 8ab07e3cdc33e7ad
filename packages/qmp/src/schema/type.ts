/**
 * Types of arguments and results, as data. From one description come validation with QEMU's error texts (`read-value.ts`),
 * `query-qmp-schema` (`introspection.ts`), the TypeScript types and the reference page.
 *
 * Why not a schema library: the texts, the order of checks, alternates, and unions whose variants carry on the struct around
 * them are the protocol here, and introspection and docs need the description itself. That is this file; a library would
 * hold the same description and none of the rest.
 */

export type BuiltinName = "str" | "bool" | "int" | "uint32" | "uint64" | "size" | "number" | "null" | "any";

export interface Builtin {
  readonly kind: "builtin";
  readonly name: BuiltinName;
}
export interface Enum {
  readonly kind: "enum";
  readonly name: string;
  readonly values: readonly string[];
  readonly doc: string;
}
export interface List {
  readonly kind: "list";
  readonly of: Type;
}
export interface Struct {
  readonly kind: "struct";
  readonly name: string;
  readonly doc: string;
  readonly members: Members;
}
/** A struct with more members, which ones the value of `tag` says. A value without a variant has none. */
export interface Union {
  readonly kind: "union";
  readonly name: string;
  readonly doc: string;
  readonly members: Members;
  readonly tag: string;
  /** Functions, as descriptions refer to each other in circles. */
  readonly variants: Readonly<Record<string, () => Struct>>;
}
/** One of several types, told apart by what JSON type the value has. */
export interface Alternate {
  readonly kind: "alternate";
  readonly name: string;
  readonly doc: string;
  readonly branches: ReadonlyArray<() => Type>;
}
export type Type = Builtin | Enum | List | Struct | Union | Alternate;

export interface Member {
  readonly type: () => Type;
  readonly doc: string;
  readonly optional: boolean;
  readonly features: readonly Feature[];
}
export type Feature = "unstable" | "deprecated";
export type Members = Readonly<Record<string, Member>>;

const builtin = (name: BuiltinName): Builtin => ({ kind: "builtin", name });
export const str: Builtin = builtin("str");
export const bool: Builtin = builtin("bool");
/** Signed, 64 bits. */
export const int: Builtin = builtin("int");
export const uint32: Builtin = builtin("uint32");
export const uint64: Builtin = builtin("uint64");
/** As uint64; on a command line it takes a suffix (`64k`). */
export const size: Builtin = builtin("size");
export const number: Builtin = builtin("number");
export const nullType: Builtin = builtin("null");
export const any: Builtin = builtin("any");

export function list(of: Type): List {
  return { kind: "list", of };
}
export function enumeration(name: string, values: readonly string[], doc: string): Enum {
  return { kind: "enum", name, values, doc };
}
export function struct(name: string, doc: string, members: Members): Struct {
  return { kind: "struct", name, doc, members };
}
export function alternate(name: string, doc: string, branches: ReadonlyArray<() => Type>): Alternate {
  return { kind: "alternate", name, doc, branches };
}

type TypeOrLater = Type | (() => Type);
const later = (type: TypeOrLater): (() => Type) => (typeof type === "function" ? type : () => type);

export function required(type: TypeOrLater, doc: string, features: readonly Feature[] = []): Member {
  return { type: later(type), doc, optional: false, features };
}
export function optional(type: TypeOrLater, doc: string, features: readonly Feature[] = []): Member {
  return { type: later(type), doc, optional: true, features };
}

/** A command as the table has it. What carries it out is elsewhere: `Handlers` in the generated types names it. */
export interface Command {
  readonly doc: string;
  readonly arguments: Struct | Union;
  readonly result: Type;
  readonly features: readonly Feature[];
  /** Later than QEMU 7.2, or not QEMU's: in which version, or why. */
  readonly since?: string;
}
export interface Event {
  readonly doc: string;
  readonly data: Struct;
}
export type CommandTable = Readonly<Record<string, Command>>;
export type EventTable = Readonly<Record<string, Event>>;

/** What a command without arguments takes, and what one that has nothing to say answers. */
export const nothing: Struct = struct("Nothing", "no members", {});

interface CommandDescription {
  readonly doc: string;
  readonly arguments?: Members | Struct | Union;
  readonly result?: Type;
  readonly features?: readonly Feature[];
  readonly since?: string;
}

export function command(description: CommandDescription): Command {
  const { doc, arguments: given = nothing, result = nothing, features = [], since } = description;
  const args = isType(given) ? given : struct("", "", given);
  return { doc, arguments: args, result, features, ...(since === undefined ? {} : { since }) };
}

function isType(given: Members | Struct | Union): given is Struct | Union {
  return typeof given.kind === "string";
}
