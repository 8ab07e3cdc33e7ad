/** The command line: what can be asked for, and a sentence for what cannot. */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { DemoError } from "./demo-error.ts";

export interface DemoOptions {
  /** An image to work on a copy of; by default one is made. */
  readonly image: string | undefined;
  readonly seed: number;
  readonly keep: boolean;
  readonly json: boolean;
}

export const help: string = `Backs up a disk image while guests write to it, then rebuilds every point in time and compares it.

  npm run demo [-- [options] [IMAGE]]

Without IMAGE it makes one of 256 MiB: ext4 with real files where e2fsprogs is there, else a raw pattern.
IMAGE is taken as raw bytes, and only a copy of it is written.

  --seed N   repeats the choices of an earlier run (how its threads interleave is not repeated)
  --keep     keeps the working directory with image, artefacts and rebuilt images, and prints where it is
  --json     prints a summary as JSON, and progress on standard error
  --help     prints this

The working directory is made in $TMPDIR (or /tmp) and removed at the end. NO_COLOR=1 prints without colours.
Exits with 0 only if every rebuilt image is what the disk held at that instant, 1 if one is not, 2 for bad input.
`;

const seedMax = 0x7fff_ffff;

/** @returns undefined if help was asked for @throws DemoError */
export function readOptions(args: readonly string[], seedByDefault: number): DemoOptions | undefined {
  const { values, positionals } = parse(args);
  if (values.help === true) return undefined;
  if (positionals.length > 1)
    throw new DemoError(`expected one IMAGE at most, not ${positionals.length} (${positionals.join(", ")})`);
  const seed = values.seed === undefined ? seedByDefault : Number(values.seed);
  if (!Number.isInteger(seed) || seed < 0 || seed > seedMax || values.seed === "") {
    throw new DemoError(`--seed: expected a whole number from 0 to ${seedMax}, not '${values.seed}'`);
  }
  const [image] = positionals;
  return {
    image: image === undefined ? undefined : resolve(whereTheUserIs(), image),
    seed,
    keep: values.keep === true,
    json: values.json === true,
  };
}

/** npm changes to the project's directory before it runs a script; a path is relative to where it was called. */
function whereTheUserIs(): string {
  return process.env["npm_lifecycle_event"] === "demo:run" ? (process.env["INIT_CWD"] ?? ".") : ".";
}

function parse(args: readonly string[]): {
  values: { seed?: string; keep?: boolean; json?: boolean; help?: boolean };
  positionals: string[];
} {
  try {
    return parseArgs({
      args: args.filter((arg) => arg !== "--"), // npm and pnpm both put one there
      allowPositionals: true,
      options: {
        seed: { type: "string" },
        keep: { type: "boolean" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    const [what] = (error as Error).message.split(/\.(?:\s|$)/); // the advice after it is for who writes a program
    throw new DemoError(`${what} (--help lists what there is)`);
  }
}
