/** The table as a page for people. */
import type { Command, CommandTable, EventTable, Members, Struct, Type, Union } from "./type.ts";

export function generateReference(chapters: Readonly<Record<string, CommandTable>>, events: EventTable): string {
  const types = new Map<string, Type>();
  const parts = [
    "# QMP reference",
    "Generated from the table of commands by testing/generate.mjs; a test compares. A `?` marks what may be left out.",
    ...Object.entries(chapters).flatMap(([title, commands]) => [
      `## ${title}`,
      ...Object.entries(commands).map(([name, one]) => commandPart(name, one, types)),
    ]),
    "## Events",
    ...Object.entries(events).map(
      ([name, { doc, data }]) => `### ${name}\n\n${doc}\n\n${memberTable(data.members, types)}`,
    ),
  ];
  const typeParts: string[] = [];
  for (const [name, type] of types) typeParts.push(`### ${name}\n\n${typePart(type, types)}`);
  return `${[...parts, "## Types", ...typeParts].join("\n\n")}\n`;
}

function commandPart(name: string, one: Command, types: Map<string, Type>): string {
  const notes = one.features.map((feature) => ` *${feature[0].toUpperCase()}${feature.slice(1)}.*`).join("");
  const result = isNothing(one.result) ? "" : `\n\nAnswers ${typeName(one.result, types)}.`;
  const args =
    one.arguments.name === "" || one.arguments.name === "Nothing"
      ? membersOf(one.arguments, types)
      : `Takes ${typeName(one.arguments, types)}.`;
  return `### ${name}\n\n${one.doc}${notes}${args === "" ? "" : `\n\n${args}`}${result}`;
}

function isNothing(type: Type): boolean {
  return type.kind === "struct" && Object.keys(type.members).length === 0;
}

function membersOf(type: Struct | Union, types: Map<string, Type>): string {
  return Object.keys(type.members).length === 0 ? "" : memberTable(type.members, types);
}

function memberTable(members: Members, types: Map<string, Type>): string {
  const rows = Object.entries(members).map(([name, { type, doc, optional, features }]) => {
    const notes = features.map((feature) => ` (${feature})`).join("");
    return `| \`${name}\`${optional ? "?" : ""} | ${typeName(type(), types)} | ${doc.replaceAll("|", "\\|")}${notes} |`;
  });
  return ["| member | type | |", "|---|---|---|", ...rows].join("\n");
}

function typeName(type: Type, types: Map<string, Type>): string {
  if (type.kind === "builtin") return type.name;
  if (type.kind === "list") return `[${typeName(type.of, types)}]`;
  if (isNothing(type)) return "nothing";
  if (!types.has(type.name)) types.set(type.name, type);
  return `[${type.name}](#${type.name.toLowerCase()})`;
}

function typePart(type: Type, types: Map<string, Type>): string {
  switch (type.kind) {
    case "enum":
      return `${sentence(type.doc)}\n\n${type.values.map((value) => `\`${value}\``).join(", ")}`;
    case "alternate":
      return `${sentence(type.doc)}\n\n${type.branches.map((branch) => typeName(branch(), types)).join(" or ")}`;
    case "struct":
      return `${sentence(type.doc)}\n\n${memberTable(type.members, types)}`;
    case "union": {
      const variants = Object.entries(type.variants).map(
        ([value, variant]) => `| \`${value}\` | ${typeName(variant(), types)} |`,
      );
      return [
        `${sentence(type.doc)} More members, by \`${type.tag}\`:`,
        memberTable(type.members, types),
        [`| ${type.tag} | more |`, "|---|---|", ...variants].join("\n"),
      ].join("\n\n");
    }
    default:
      return "";
  }
}

function sentence(doc: string): string {
  return doc === "" ? "" : `${doc[0].toUpperCase()}${doc.slice(1)}.`;
}
