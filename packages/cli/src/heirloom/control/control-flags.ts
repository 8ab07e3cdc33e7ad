/** What every command has that drives a daemon: whom, and how it answers. */
import type { FlagParametersForType } from "@stricli/core";
import { UsageError } from "../command-error.ts";

export interface ControlFlags {
  readonly control?: string;
  readonly json?: boolean;
}

/** For `parameters.flags`. */
export const controlFlags: FlagParametersForType<ControlFlags> = {
  control: {
    kind: "parsed",
    parse: parseControl,
    optional: true,
    brief: "Whom to drive (default HEIRLOOM_CONTROL)",
    placeholder: "PATH",
  },
  json: {
    kind: "boolean",
    optional: true,
    withNegated: false,
    brief: "Print the result as JSON",
  },
};

/** For the end of a help text. */
export const aboutControl = `It drives 'heirloom serve --control PATH', or heirloom-storage-daemon through its monitor: the one that --control
names, else the environment's HEIRLOOM_CONTROL.

Exit status: 0, 1 after a failure, 2 where the command line makes no sense.`;

function parseControl(text: string): string {
  if (text === "") throw new UsageError("expected the path of a socket, and it is empty");
  return text;
}

/** @throws UsageError where nobody is named */
export function controlPath({ control }: ControlFlags, environment: NodeJS.ProcessEnv = process.env): string {
  const path = control ?? environment.HEIRLOOM_CONTROL ?? "";
  if (path !== "") return path;
  throw new UsageError(
    "whom to drive is not said",
    "Give --control PATH, or set HEIRLOOM_CONTROL: the path that 'heirloom serve --control' or the daemon's monitor has.",
  );
}
