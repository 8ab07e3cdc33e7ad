/** What the command says of itself, and how shells complete it. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { heirloom, needTool, run, runHeirloom, scratchDirectory } from "./command.fixture.ts";

test("the version is the package's", async () => {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  for (const flag of ["--version", "-V"]) {
    expect(await runHeirloom([flag])).toEqual({ status: 0, output: `${manifest.version}\n`, errors: "" });
  }
});

test("without a command, and with --help, it says what there is", async () => {
  const help = await runHeirloom(["--help"]);
  expect(help).toMatchObject({ status: 0, errors: "" });
  expect(help.output).toMatch(/^ {2}serve +Put disks on a socket/m);
  expect(help.output).toMatch(/^ {2}pull +Copy an NBD export/m);
  expect(await runHeirloom([])).toEqual(help);
  expect(await runHeirloom(["-h"])).toEqual(help);
});

for (const command of [
  "serve",
  "pull",
  "bitmap",
  "bitmap add",
  "bitmap merge",
  "backup",
  "jobs",
  "resume",
  "cancel",
  "explain",
  "info",
]) {
  test(`heirloom ${command} --help fits a terminal`, async () => {
    const { status, output, errors } = await runHeirloom([...command.split(" "), "--help"]);
    expect({ status, errors }).toEqual({ status: 0, errors: "" });
    const [usage, ...rest] = output.split("\n").slice(1);
    expect(usage.length).toBeLessThan(130);
    for (const line of rest) expect(line.length, line).toBeLessThan(120);
    expect(output).not.toContain("\x1b");
  });
}

test("a command that is misspelt is told what was meant: status 2", async () => {
  const { status, output, errors } = await runHeirloom(["serv"]);
  expect({ status, output }).toEqual({ status: 2, output: "" });
  expect(errors).toBe("heirloom: no command 'serv'; did you mean 'serve'?\n  'heirloom --help' lists them.\n");
});

const proposals: [words: string[], proposed: string[]][] = [
  [["s"], ["serve"]],
  [[""], ["serve", "pull", "bitmap", "backup", "jobs", "resume", "cancel", "explain", "info", "journal", "completion"]],
  [
    ["serve", "vm.raw", "--s"],
    ["--socket", "--stop-timeout"],
  ],
  [["serve", "--format", ""], ["raw"]],
  [
    ["serve", "vm.raw", "--jou"],
    ["--journal", "--journal-bound", "--journal-allow-tmpfs"],
  ],
  [["pull", "--bi"], ["--bitmap"]],
  [
    ["completion", ""],
    ["bash", "zsh", "fish"],
  ],
  [["journal", ""], ["check"]],
  [
    ["info", "vm.raw", "--j"],
    ["--journal", "--json"],
  ],
  [["serve", ""], []],
  [["nonsense", "x"], []],
];
for (const [words, proposed] of proposals) {
  test(`'heirloom ${words.join(" ")}' may become ${proposed.join(", ") || "a file's name"}`, async () => {
    const { status, output } = await runHeirloom(["complete", "--", ...words]);
    expect({ status, lines: output.split("\n").filter((line) => line !== "") }).toEqual({ status: 0, lines: proposed });
  });
}

test("bash completes with the script that is printed", async (context) => {
  needTool(context, "bash");
  // `heirloom` in the shell is the command under test; COMP_WORDS is what bash gives to a completion.
  const program = `
    heirloom() { "${process.execPath}" "${heirloom}" "$@"; }
    source <(heirloom completion bash)
    complete -p heirloom
    COMP_WORDS=(heirloom serve vm.raw --rea) COMP_CWORD=3
    _heirloom
    printf '<%s>\\n' "\${COMPREPLY[@]}"`;
  const { status, output, errors } = await run("bash", ["-c", program]);
  expect({ status, errors }).toEqual({ status: 0, errors: "" });
  expect(output).toBe("complete -o default -F _heirloom heirloom\n<--read-only>\n");
});

test("bash completes the daemon's options, and how their values begin, which it takes apart at =", async (context) => {
  needTool(context, "bash");
  const complete = async (line: string): Promise<string[]> => {
    const program = `
      heirloom() { "${process.execPath}" "${heirloom}" "$@"; }
      source <(heirloom completion bash)
      COMP_LINE='heirloom-storage-daemon ${line}' COMP_POINT=\${#COMP_LINE}
      _heirloom_storage_daemon
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    return (await run("bash", ["-c", program])).output.split("\n").filter((word) => word !== "");
  };
  expect(await complete("--m")).toEqual(["--metrics", "--monitor"]);
  expect(await complete("--log-format ")).toEqual(["text", "json"]);
  expect(await complete("--blockdev driver=t")).toEqual(["throttle,node-name="]);
  expect(await complete("--blockdev driver=file,filename=v")).toEqual([]);
  expect(await complete("--pidfile ")).toEqual([]);
});

test("fish completes with the script that is printed, and with names of files where there is nothing else", async (context) => {
  needTool(context, "fish");
  const complete = async (line: string): Promise<string[]> => {
    const program = `
      function heirloom; "${process.execPath}" "${heirloom}" $argv; end
      function heirloom-storage-daemon; end
      heirloom completion fish | source
      complete -C '${line}'`;
    const { status, errors, output } = await run("fish", ["--no-config", "-c", program]);
    expect({ status, errors }).toEqual({ status: 0, errors: "" });
    return output.split("\n").filter((word) => word !== "");
  };
  expect(await complete("heirloom serve vm.raw --rea")).toEqual(["--read-only"]);
  expect((await complete("heirloom completion ")).sort()).toEqual(["bash", "fish", "zsh"]);
  expect(await complete("heirloom serve /etc/passw")).toContain("/etc/passwd");
  expect(await complete("heirloom-storage-daemon --blockdev driver=t")).toEqual(["driver=throttle,node-name="]);
  expect((await complete("heirloom-storage-daemon --log-format ")).sort()).toEqual(["json", "text"]);
  expect(await complete("heirloom-storage-daemon --pidfile /etc/passw")).toContain("/etc/passwd");
});

test("zsh completes with the script that is printed, and with names of files where there is nothing else", async (context) => {
  needTool(context, "zsh");
  // What its completion system offers to functions; `words` and CURRENT are what they are given.
  const complete = async (...words: string[]): Promise<string[]> => {
    const program = `
      heirloom() { "${process.execPath}" "${heirloom}" "$@"; }
      compdef() { :; }
      compadd() { while [[ "$1" != -- ]]; do shift; done; shift; print -l -- "$@"; }
      _files() { print names of files; }
      source <(heirloom completion zsh)
      words=(${words.map((word) => `'${word}'`).join(" ")}) CURRENT=${words.length}
      _\${\${words[1]}//-/_}`;
    const { status, errors, output } = await run("zsh", ["-f", "-c", program]);
    expect({ status, errors }).toEqual({ status: 0, errors: "" });
    return output.split("\n").filter((word) => word !== "");
  };
  expect(await complete("heirloom", "serve", "vm.raw", "--rea")).toEqual(["--read-only"]);
  expect(await complete("heirloom", "serve", "v")).toEqual(["names of files"]);
  expect(await complete("heirloom-storage-daemon", "--log-format", "")).toEqual(["text", "json"]);
  expect(await complete("heirloom-storage-daemon", "--blockdev", "dri")).toContain("driver=throttle,node-name=");
  expect(await complete("heirloom-storage-daemon", "--pidfile", "")).toEqual(["names of files"]);
});

test("a shell that is not known is refused: status 2", async () => {
  const { status, errors } = await runHeirloom(["completion", "csh"]);
  expect(status).toBe(2);
  expect(errors).toContain("'csh' is no shell that is known; expected bash, zsh, fish");
});

test("HEIRLOOM_DEBUG=1 shows where a failure came from, and nothing else does", async () => {
  const directory = scratchDirectory();
  const args = ["serve", "nowhere.raw", "--socket", "s"];
  const quiet = await runHeirloom(args, { cwd: directory });
  expect(quiet.errors).not.toMatch(/^ +at /m);
  const env = { ...process.env, HEIRLOOM_DEBUG: "1" };
  expect((await runHeirloom(args, { cwd: directory, env })).errors).toMatch(/^ +at /m);
});
