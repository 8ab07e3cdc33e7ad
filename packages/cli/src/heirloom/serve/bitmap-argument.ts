/** `--bitmap NAME[,granularity=SIZE][,export=on|off][,fresh]` */
import { UsageError } from "../command-error.ts";
import { parseBytes } from "../sizes.ts";

export interface BitmapArgument {
  readonly name: string;
  /** Bytes; the runtime's default where it is not given. */
  readonly granularity: number | undefined;
  /** Whether NBD clients see it, where that is said. A bitmap that they see is busy: no backup can have it. */
  readonly exported: boolean | undefined;
  /** One that was kept is not gone on with: it begins empty. */
  readonly fresh?: true;
}

const GRANULARITY_MIN = 512;
const GRANULARITY_MAX = 2 ** 31;

export function parseBitmap(text: string): BitmapArgument {
  const [name, ...options] = text.split(",");
  if (name === "") throw new UsageError("expected NAME or NAME,granularity=SIZE, and the name is empty");
  let granularity: number | undefined;
  let exported: boolean | undefined;
  let fresh = false;
  for (const option of options) {
    if (option === "fresh") {
      fresh = true;
      continue;
    }
    const [, key, value] = /^(granularity|export)=(.*)$/s.exec(option) ?? [];
    if (key === undefined) {
      throw new UsageError(
        `'${option}' is unknown; expected granularity=SIZE, fresh, export=on or export=off, as in ${name},granularity=64k`,
      );
    }
    if ((key === "granularity" ? granularity : exported) !== undefined) throw new UsageError(`${key} is given twice`);
    if (key === "granularity") granularity = parseGranularity(value);
    else exported = parseSwitch(value);
  }
  return { name, granularity, exported, ...(fresh ? { fresh: true } : {}) };
}

function parseSwitch(text: string): boolean {
  if (text === "on" || text === "off") return text === "on";
  throw new UsageError(`'export=${text}' is neither; expected export=on or export=off`);
}

export function parseGranularity(text: string): number {
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
