/** Colours where a terminal shows them; NO_COLOR and TERM=dumb are heard, and a pipe gets plain text. */
import { styleText } from "node:util";

export type Format = Parameters<typeof styleText>[0];
export type Paint = (format: Format, text: string) => string;

export function paintFor(stream: NodeJS.WriteStream): Paint {
  return showsColours(stream)
    ? (format, text) => styleText(format, text, { validateStream: false })
    : (_, text) => text;
}

function showsColours(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && stream.hasColors();
}
