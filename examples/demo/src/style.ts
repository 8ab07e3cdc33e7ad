/** Colours for a terminal; none where output goes elsewhere or NO_COLOR is set. */
import { styleText } from "node:util";

export type Style = "bold" | "dim" | "green" | "red" | "yellow" | "cyan" | "blue";
export type Paint = (style: Style, text: string) => string;

export function paintFor(stream: NodeJS.WriteStream): Paint {
  const noColor = process.env["NO_COLOR"];
  const plain = !stream.isTTY || (noColor !== undefined && noColor !== "");
  return plain ? (_style, text) => text : (style, text) => styleText(style, text);
}
