/** The table as TypeScript: types of arguments, results and events, for the client and for whoever carries commands out. */
import type { CommandTable, EventTable, Members, Struct, Type, Union } from "./type.ts";

const builtins: Readonly<Record<string, string>> = {
  str: "string",
  bool: "boolean",
  int: "number",
  uint32: "number",
  uint64: "number",
  size: "number",
  number: "number",
  null: "null",
  any: "unknown",
};

export function generateTypes(commands: CommandTable, events: EventTable): string {
  const out = new Generator();
  const commandLines = Object.entries(commands).map(([name, { doc, arguments: args, result }]) =>
    [
      `  /** ${doc} */`,
      `  readonly ${quote(name)}: { readonly arguments: ${out.arguments(args)}; readonly result: ${out.type(result)} };`,
    ].join("\n"),
  );
  const eventLines = Object.entries(events).map(
    ([name, { doc, data }]) => `  /** ${doc} */\n  readonly ${name}: ${out.body(data)};`,
  );
  return `${[
    "/** Generated from the table of commands by testing/generate.mjs; a test compares. Do not edit. */",
    ...out.declarations(),
    `export interface QmpCommands {\n${commandLines.join("\n")}\n}`,
    `export interface QmpEvents {\n${eventLines.join("\n")}\n}`,
  ].join("\n\n")}\n`;
}

class Generator {
  readonly #declared = new Map<string, string>();

  declarations(): string[] {
    return [...this.#declared.values()];
  }

  arguments(type: Struct | Union): string {
    return type.name === "" ? this.body(type) : this.type(type);
  }

  type(type: Type): string {
    switch (type.kind) {
      case "builtin":
        return builtins[type.name];
      case "list":
        return `ReadonlyArray<${this.type(type.of)}>`;
      default:
        break;
    }
    if (type.name === "Nothing") return "Readonly<Record<string, never>>";
    if (!this.#declared.has(type.name)) {
      this.#declared.set(type.name, ""); // it may contain itself
      this.#declared.set(type.name, `/** ${upper(type.doc)}. */\nexport ${this.#declaration(type)}`);
    }
    return type.name;
  }

  body(type: Struct | Union): string {
    if (Object.keys(type.members).length === 0) return "Readonly<Record<string, never>>";
    return `{\n${this.#members(type.members)}\n}`;
  }

  #declaration(type: Exclude<Type, { kind: "builtin" | "list" }>): string {
    switch (type.kind) {
      case "enum":
        return `type ${type.name} = ${type.values.map(quoteValue).join(" | ")};`;
      case "alternate":
        return `type ${type.name} = ${type.branches.map((branch) => this.type(branch())).join(" | ")};`;
      case "struct":
        return `interface ${type.name} {\n${this.#members(type.members)}\n}`;
      case "union":
        return `type ${type.name} =\n${this.#variants(type)};`;
    }
  }

  #variants(type: Union): string {
    const { [type.tag]: tag, ...common } = type.members;
    const values = tag.type();
    if (values.kind !== "enum") throw new Error(`the tag of ${type.name} must be an enum`);
    const base = `${type.name}Base`;
    this.#declared.set(
      base,
      `/** What every ${type.name} has. */\nexport interface ${base} {\n${this.#members(common)}\n}`,
    );
    return values.values
      .map((value) => {
        const variant = type.variants[value]?.();
        const more = variant === undefined ? "" : ` & ${this.type(variant)}`;
        return `  | (${base} & { readonly ${quote(type.tag)}: ${quoteValue(value)} }${more})`;
      })
      .join("\n");
  }

  #members(members: Members): string {
    return Object.entries(members)
      .map(([name, { type, doc, optional }]) => {
        const mark = optional ? "?" : "";
        return `  /** ${upper(doc)}. */\n  readonly ${quote(name)}${mark}: ${this.type(type())};`;
      })
      .join("\n");
  }
}

function quote(name: string): string {
  return /^[a-z_][a-z0-9_]*$/i.test(name) ? name : `"${name}"`;
}
function quoteValue(value: string): string {
  return `"${value}"`;
}
function upper(text: string): string {
  return text === "" ? "No members" : text[0].toUpperCase() + text.slice(1);
}
