/** The command `heirloom`: its subcommands, and how it speaks. */
import {
  type Application,
  ArgumentParseError,
  ArgumentScannerError,
  buildApplication,
  buildRouteMap,
  type CommandContext,
  formatMessageForArgumentScannerError,
  help,
  text_en,
  version,
} from "@stricli/core";
import { CommandError, EXIT_FAILURE } from "./command-error.ts";
import { completeCommandOf, completionCommand } from "./completion/completion-command.ts";
import { backupCommand } from "./control/backup-command.ts";
import { bitmapCommands } from "./control/bitmap-commands.ts";
import { explainCommand } from "./control/explain-command.ts";
import { cancelCommand, jobsCommand } from "./control/jobs-commands.ts";
import { resumeCommand } from "./control/resume-command.ts";
import { explain } from "./explain.ts";
import { journalRoutes } from "./journal/check-command.ts";
import { infoCommand } from "./journal/info-command.ts";
import { pullCommand } from "./pull/pull-command.ts";
import { serveCommand } from "./serve/serve-command.ts";
import { version as packageVersion } from "./version.ts";

const root = buildRouteMap({
  routes: {
    serve: serveCommand,
    pull: pullCommand,
    bitmap: bitmapCommands,
    backup: backupCommand,
    jobs: jobsCommand,
    resume: resumeCommand,
    cancel: cancelCommand,
    explain: explainCommand,
    info: infoCommand,
    journal: journalRoutes,
    completion: completionCommand,
    complete: completeCommandOf(() => application),
  },
  docs: {
    brief: "Disks on sockets, dirty bitmaps, exact backups",
    hideRoute: { complete: true },
    fullDescription: `Disks on sockets, dirty bitmaps, exact backups.

'heirloom COMMAND --help' says more. Exit status: 0, 1 after a failure, 2 where the command line makes no sense.`,
  },
});

const formatting = {
  caseStyle: "convert-camel-to-kebab",
  useAliasInUsageLine: false,
  onlyRequiredInUsageLine: true,
} as const;

export const application: Application<CommandContext> = buildApplication(
  root,
  {
    name: "heirloom",
    scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
    determineExitCode: (error) => (error instanceof CommandError ? error.exitCode : EXIT_FAILURE),
    localization: {
      text: {
        ...text_en,
        noCommandRegisteredForInput: ({ input, corrections }) =>
          [`heirloom: no command '${input}'${suggestion(corrections)}`, "  'heirloom --help' lists them."].join("\n"),
        exceptionWhileParsingArguments: (error) =>
          `heirloom: ${usageMessage(error)}\n  '--help' says what is expected.`,
        exceptionWhileLoadingCommandFunction: explain,
        exceptionWhileRunningCommand: explain,
        commandErrorResult: explain,
      },
    },
  },
  {
    help: help({ formatting, complete: true, defaultForRouteMap: true, brief: "Print help and exit" }),
    version: version({ info: { currentVersion: packageVersion }, alias: "V", brief: "Print the version and exit" }),
  },
);

function suggestion(corrections: readonly string[]): string {
  return corrections.length === 0 ? "" : `; did you mean ${corrections.join(" or ").replaceAll("`", "'")}?`;
}

function usageMessage(error: unknown): string {
  if (error instanceof ArgumentParseError) {
    const { exception, externalFlagNameOrPlaceholder: what } = error;
    return `${what}: ${exception instanceof Error ? exception.message : String(exception)}`;
  }
  if (error instanceof ArgumentScannerError) return formatMessageForArgumentScannerError(error, {});
  return error instanceof Error ? error.message : String(error);
}
