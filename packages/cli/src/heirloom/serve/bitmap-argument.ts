/** `--bitmap NAME[,granularity=SIZE]` */
import { UsageError } from "../command-error.ts";
import { parseBytes } from "../sizes.ts";

export interface BitmapArgument {
  readonly name: string;
  /** Bytes; the runtime's default where it is not given. */
  readonly granularity: number | undefined;
}

const GRANULARITY_MIN = 512;
const GRANULARITY_MAX = 2 ** 31;

export function parseBitmap(text: string): BitmapArgument {
  const [name, ...options] = text.split(",");
  if (name === "") throw new UsageError("expected NAME or NAME,granularity=SIZE, and the name is empty");
  let granularity: number | undefined;
  for (const option of options) {
    const value = /^granularity=(.*)$/s.exec(option)?.[1];
    if (value === undefined)
      throw new UsageError(`'${option}' is unknown; expected granularity=SIZE, as in ${name},granularity=64k`);
    if (granularity !== undefined) throw new UsageError("granularity is given twice");
    granularity = parseGranularity(value);
  }
  return { name, granularity };
}

function parseGranularity(text: string): number {
  const bytes = parseBytes(text);
  if (
    bytes === undefined ||
    bytes < GRANULARITY_MIN ||
    bytes > GRANULARITY_MAX ||
    !Number.isInteger(Math.log2(bytes))
  ) {
    throw new UsageError(`the granularity '${text}' is none; expected a power of two from 512 to 2G, as in 64k`);
  }
  return bytes;
}
