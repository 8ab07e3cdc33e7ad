/** `--bitmap NAME[,granularity=SIZE][,fresh]` */
import { UsageError } from "../command-error.ts";
import { parseBytes } from "../sizes.ts";

export interface BitmapArgument {
  readonly name: string;
  /** Bytes; the runtime's default where it is not given. */
  readonly granularity: number | undefined;
  /** One that was kept is not gone on with: it begins empty. */
  readonly fresh?: true;
}

const GRANULARITY_MIN = 512;
const GRANULARITY_MAX = 2 ** 31;

export function parseBitmap(text: string): BitmapArgument {
  const [name, ...options] = text.split(",");
  if (name === "") throw new UsageError("expected NAME or NAME,granularity=SIZE, and the name is empty");
  let granularity: number | undefined;
  let fresh = false;
  for (const option of options) {
    if (option === "fresh") {
      fresh = true;
      continue;
    }
    const value = /^granularity=(.*)$/s.exec(option)?.[1];
    if (value === undefined)
      throw new UsageError(`'${option}' is unknown; expected granularity=SIZE or fresh, as in ${name},granularity=64k`);
    if (granularity !== undefined) throw new UsageError("granularity is given twice");
    granularity = parseGranularity(value);
  }
  return { name, granularity, ...(fresh ? { fresh: true } : {}) };
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
