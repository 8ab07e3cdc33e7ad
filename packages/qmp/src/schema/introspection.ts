/**
 * The table as `query-qmp-schema` shows it: commands and events by name, types by numbers that mean nothing, so that nobody
 * relies on ours. What integers are wide is not told: every one of them is "int", as in QEMU.
 */
import type { Writable } from "../wire/json-value.ts";
import type { Alternate, CommandTable, Enum, EventTable, Feature, Members, Struct, Type, Union } from "./type.ts";

export type SchemaEntry = Readonly<Record<string, Writable>>;

const jsonTypes: Readonly<Record<string, string>> = {
  str: "string",
  bool: "boolean",
  int: "int",
  number: "number",
  null: "null",
  any: "value",
};

export function introspect(commands: CommandTable, events: EventTable): SchemaEntry[] {
  return new Introspection().run(commands, events);
}

class Introspection {
  readonly #entries: SchemaEntry[] = [];
  readonly #names = new Map<string, string>();
  readonly #later: (() => void)[] = [];
  #numbers = 0;

  run(commands: CommandTable, events: EventTable): SchemaEntry[] {
    for (const [name, { arguments: args, result, features }] of Object.entries(commands)) {
      this.#entries.push({
        name,
        "meta-type": "command",
        "arg-type": this.#object(args),
        "ret-type": this.#type(result),
        ...featuresOf(features),
      });
    }
    for (const [name, { data }] of Object.entries(events)) {
      this.#entries.push({ name, "meta-type": "event", "arg-type": this.#object(data) });
    }
    for (let next = this.#later.shift(); next !== undefined; next = this.#later.shift()) next();
    return this.#entries;
  }

  #type(type: Type): string {
    switch (type.kind) {
      case "builtin": {
        const name = ["uint32", "uint64", "size"].includes(type.name) ? "int" : type.name;
        return this.#once(name, name, () => ({ name, "meta-type": "builtin", "json-type": jsonTypes[name] }));
      }
      case "list": {
        const element = this.#type(type.of);
        const name = `[${element}]`;
        return this.#once(name, name, () => ({ name, "meta-type": "array", "element-type": element }));
      }
      case "enum":
        return this.#numbered(type, (name) => enumEntry(name, type));
      case "alternate":
        return this.#numbered(type, (name) => this.#alternateEntry(name, type));
      default:
        return this.#object(type);
    }
  }

  #object(type: Struct | Union): string {
    return this.#numbered(type, (name) => ({
      name,
      "meta-type": "object",
      members: this.#members(type.members),
      ...(type.kind === "union" ? { tag: type.tag, variants: this.#variants(type) } : {}),
    }));
  }

  #alternateEntry(name: string, type: Alternate): SchemaEntry {
    return {
      name,
      "meta-type": "alternate",
      members: type.branches.map((branch) => ({ type: this.#type(branch()) })),
    };
  }

  #variants(type: Union): Writable[] {
    const tag = type.members[type.tag].type();
    const values = tag.kind === "enum" ? tag.values : [];
    return values.map((value) => ({
      case: value,
      type: this.#object(type.variants[value]?.() ?? empty),
    }));
  }

  #members(members: Members): Writable[] {
    return Object.entries(members).map(([name, { type, optional, features }]) => ({
      name,
      type: this.#type(type()),
      ...(optional ? { default: null } : {}),
      ...featuresOf(features),
    }));
  }

  /** Types are told apart by what they are called; those without a name, by what they are. */
  #numbered(type: Exclude<Type, { kind: "builtin" | "list" }>, entry: (name: string) => SchemaEntry): string {
    const key = type.name === "" ? `#${this.#nameless(type)}` : `${type.kind} ${type.name}`;
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    const name = String(this.#numbers++);
    this.#names.set(key, name);
    this.#later.push(() => this.#entries.push(entry(name)));
    return name;
  }

  readonly #numbersOfNameless = new Map<object, number>();
  #nameless(type: object): number {
    let number = this.#numbersOfNameless.get(type);
    if (number === undefined) this.#numbersOfNameless.set(type, (number = this.#numbersOfNameless.size));
    return number;
  }

  #once(key: string, name: string, entry: () => SchemaEntry): string {
    if (!this.#names.has(key)) {
      this.#names.set(key, name);
      this.#later.push(() => this.#entries.push(entry()));
    }
    return name;
  }
}

const empty: Struct = { kind: "struct", name: "Nothing", doc: "", members: {} };

function enumEntry(name: string, type: Enum): SchemaEntry {
  return {
    name,
    "meta-type": "enum",
    members: type.values.map((value) => ({ name: value })),
    values: [...type.values],
  };
}

function featuresOf(features: readonly Feature[]): { features?: Writable } {
  return features.length === 0 ? {} : { features: [...features] };
}
