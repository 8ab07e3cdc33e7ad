/** `--object help` and `--object TYPE,help`. */
import { commands } from "@heirloom/qmp/table";

export function describeObjects(text: string): string | undefined {
  const { arguments: options } = commands["object-add"];
  if (options.kind !== "union") return undefined;
  if (text === "help") {
    return `List of user creatable objects:\n${Object.keys(options.variants)
      .map((name) => `  ${name}\n`)
      .join("")}`;
  }
  const match = /^(?:qom-type=)?([^,=]+),help$/.exec(text);
  if (match === null || !Object.hasOwn(options.variants, match[1])) return undefined;
  const { members } = options.variants[match[1]]();
  const lines = Object.entries(members).map(([name, { type, doc }]) => {
    const of = type();
    const shown =
      of.kind === "builtin" ? (of.name === "str" ? "string" : of.name) : of.kind === "list" ? "list" : of.name;
    return `  ${name}=<${shown}>`.padEnd(34) + `- ${doc}\n`;
  });
  return `${match[1]} options:\n${lines.join("")}`;
}
