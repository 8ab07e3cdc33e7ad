/** Completion for shells: a script for each, which asks `heirloom complete` what may come next. */
import { type Application, buildCommand, type Command, type CommandContext, proposeCompletions } from "@stricli/core";
import { SCRIPTS, type Shell, SHELLS } from "./completion-scripts.ts";

export const completionCommand: Command<CommandContext> = buildCommand({
  docs: {
    brief: "Print a script that completes this command in a shell",
    fullDescription: `Prints a script that completes this command in a shell.

  bash:  source <(heirloom completion bash)        in ~/.bashrc
  zsh:   source <(heirloom completion zsh)         in ~/.zshrc, after compinit
  fish:  heirloom completion fish | source         in ~/.config/fish/config.fish`,
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        { brief: "bash, zsh or fish", placeholder: "SHELL", parse: parseShell, proposeCompletions: () => SHELLS },
      ],
    },
  },
  func: function (this: CommandContext, _: object, shell: Shell) {
    this.process.stdout.write(SCRIPTS[shell]);
  },
});

/** Hidden: the words of a command line so far, the last of them unfinished, give what it may become, a line each. */
export function completeCommandOf(application: () => Application<CommandContext>): Command<CommandContext> {
  return buildCommand({
    docs: { brief: "Propose completions" },
    parameters: {
      positional: { kind: "array", parameter: { brief: "Words", placeholder: "WORD", parse: String } },
    },
    func: async function (this: CommandContext, _: object, ...words: string[]) {
      const proposals = await proposeCompletions(application(), words, { process: this.process });
      // Options only where one is being written: elsewhere they would stand in the way of the names of files.
      const wantsOption = words.at(-1)?.startsWith("-") === true;
      const fitting = proposals.filter(({ completion }) => wantsOption || !completion.startsWith("-"));
      this.process.stdout.write(fitting.map(({ completion }) => `${completion}\n`).join(""));
    },
  });
}

function parseShell(text: string): Shell {
  const shell = SHELLS.find((one) => one === text);
  if (shell === undefined) throw new Error(`'${text}' is no shell that is known; expected ${SHELLS.join(", ")}`);
  return shell;
}
