/**
 * Transcripts in READMEs, run and compared. A transcript is a block of commands after `$ ` and of what they print; a line
 * `...` stands for any number of lines. What differs from run to run (times, rates, the directory) is made the same on both
 * sides before they are compared.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Step {
  readonly command: string;
  readonly output: readonly string[];
}

/** The block of a README behind this fence. */
export function readBlock(readme: string, fence: string): string {
  const found = readFileSync(readme, "utf8").split(`\`\`\`${fence}\n`)[1]?.split("```")[0];
  if (found === undefined) throw new Error(`${readme} has no block ${fence}`);
  return found;
}

/** A command that ends in a backslash goes on in the next line. */
export function parseTranscript(block: string): readonly Step[] {
  const steps: { command: string; output: string[] }[] = [];
  let goesOn = false;
  for (const line of block.trimEnd().split("\n")) {
    const step = steps.at(-1);
    if (goesOn && step !== undefined) step.command += `\n${line}`;
    else if (line.startsWith("$ ")) steps.push({ command: line.slice(2), output: [] });
    else if (step === undefined) throw new Error(`a transcript begins with a command, not with '${line}'`);
    else step.output.push(line);
    goesOn = line.endsWith("\\") && (goesOn || line.startsWith("$ "));
  }
  return steps;
}

/** All of it in one shell, one command after the other; what each prints, errors included. */
export async function runTranscript(
  steps: readonly Step[],
  options: { readonly cwd: string; readonly prelude: string },
): Promise<readonly (readonly string[])[]> {
  const end = "== end of a step ==";
  const program = [options.prelude, ...steps.map(({ command }) => `${command}\nprintf '%s\\n' '${end}'`)].join("\n");
  const output = await new Promise<string>((resolve) => {
    execFile("bash", ["-c", `exec 2>&1\n${program}`], { cwd: options.cwd, encoding: "utf8" }, (_, text) =>
      resolve(text),
    );
  });
  return output
    .split(`${end}\n`)
    .slice(0, steps.length)
    .map((text) => text.split("\n").slice(0, -1));
}

/** Whether lines are what a transcript says, `...` included. */
export function matches(expected: readonly string[], lines: readonly string[]): boolean {
  const [first, ...rest] = expected;
  if (first === undefined) return lines.length === 0;
  if (first === "...") return lines.some((_, index) => matches(rest, lines.slice(index))) || matches(rest, []);
  return lines.length > 0 && first === lines[0] && matches(rest, lines.slice(1));
}

/** A line without what differs from run to run. */
export function normalize(line: string): string {
  if (/IOPS=/.test(line)) return line.replaceAll(/[\d.]+(KiB|MiB|GiB|kB|MB|GB|B|k|msec|usec|sec)?/g, "N");
  return line
    .replaceAll(/^\d\d:\d\d:\d\d /g, "TIME ")
    .replaceAll(/\([\d.]+ s, [\d.]+ \w+\/s\)/g, "(TOOK)")
    .trimEnd();
}
