/** What `heirloom serve` shows: on a terminal, without colours, and in a pipe. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, truncateSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import { expect, onTestFinished, test } from "vitest";
import { heirloom, needTool, scratchDirectory } from "../command.fixture.ts";

interface Shown {
  readonly directory: string;
  /** Until the output so far matches. */
  readonly until: (pattern: RegExp) => Promise<string>;
  /** Ctrl-C as a terminal sends it, or the signal, and all the output. */
  readonly interrupt: () => Promise<string>;
}

/** Serves a disk of 1 MiB, on a terminal of 100 columns or into a pipe. */
function show(terminal: boolean, env: NodeJS.ProcessEnv = {}): Shown {
  const directory = scratchDirectory();
  writeFileSync(join(directory, "vm.raw"), "");
  truncateSync(join(directory, "vm.raw"), 2 ** 20);
  const command = [process.execPath, heirloom, "serve", "vm.raw", "--socket", "s.sock", "--bitmap", "daily"];
  const { NO_COLOR: _, FORCE_COLOR: __, CI: ___, ...inherited } = process.env;
  const options = { cwd: directory, env: { ...inherited, TERM: "xterm-256color", COLORTERM: "", ...env } };
  const child = terminal
    ? spawn("script", ["-qefc", `stty cols 100; exec ${command.join(" ")}`, "/dev/null"], options)
    : spawn(command[0], command.slice(1), options);
  const closed = once(child, "close");
  let output = "";
  let wake = (): void => undefined;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    wake();
  });
  let over = false;
  void closed.then(() => {
    over = true;
    wake();
  });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await closed;
  });
  const until = async (pattern: RegExp): Promise<string> => {
    while (!pattern.test(output)) {
      if (over) throw new Error(`ended without ${pattern}: ${output}`);
      await new Promise<void>((resolve) => (wake = resolve));
    }
    return output;
  };
  const interrupt = async (): Promise<string> => {
    if (terminal) child.stdin.write("\x03");
    else child.kill("SIGINT");
    await closed;
    expect(child.exitCode).toBe(0);
    return output;
  };
  return { directory, until, interrupt };
}

async function writeSome(directory: string): Promise<void> {
  const client = await NbdClient.connect(`nbd+unix:///vm.raw?socket=${directory}/s.sock`);
  await client.write(new Uint8Array(100_000), 0);
  await client.close();
}

test("on a terminal: the URI, how to use it, and figures that are written anew in place", async (context) => {
  needTool(context, "script", "stty");
  const shown = show(true);
  const begun = await shown.until(/Ctrl-C stops/);
  expect(begun).toContain(`nbd+unix:///vm.raw?socket=${shown.directory}/s.sock`);
  for (const program of [
    "qemu-system-x86_64",
    "nbd-client -unix",
    "qemu-img convert",
    "nbdcopy",
    "fio",
    "heirloom pull",
  ]) {
    expect(begun).toContain(program);
  }
  expect(begun).toContain("\x1b[1mvm.raw\x1b[22m: 1 MiB, writable, bitmap daily (a bit for 64 KiB)");
  await writeSome(shown.directory);
  await shown.until(/client 1 left: after 2 requests, the client said goodbye \(0 connected\)/);
  // Two lines up, and anew: a client less, and two granules of 64 KiB that are dirty.
  await shown.until(/\x1b\[2A\r\x1b\[Jvm\.raw {3}0 clients .* daily 128 KiB dirty/); // oxlint-disable-line no-control-regex
  const all = await shown.interrupt();
  expect(all).toMatch(/Stopping.*SIGINT/);
  expect(all.trimEnd()).toMatch(/Stopped\./);
});

test("NO_COLOR is heard: no colours, and figures in place all the same", async (context) => {
  needTool(context, "script", "stty");
  const shown = show(true, { NO_COLOR: "1" });
  await shown.until(/Ctrl-C stops/);
  const all = await shown.interrupt();
  expect(all).not.toMatch(/\x1b\[[0-9;]*m/); // oxlint-disable-line no-control-regex
  expect(all).toContain("\x1b[2A");
});

test("a dumb terminal gets lines that follow each other", async (context) => {
  needTool(context, "script", "stty");
  const shown = show(true, { TERM: "dumb" });
  await shown.until(/Ready\./);
  expect(await shown.interrupt()).not.toContain("\x1b");
});

test("a client cannot write to the terminal with a name that it asks for", async () => {
  const shown = show(false);
  await shown.until(/Ready\./);
  const name = encodeURIComponent("\x1b[2Jcleared\n00:00:00 forged");
  const refused = NbdClient.connect(`nbd+unix:///${name}?socket=${shown.directory}/s.sock`);
  await expect(refused).rejects.toThrow("not present");
  await writeSome(shown.directory);
  await shown.until(/client 1 left/);
  const all = await shown.interrupt();
  expect(all).not.toContain("\x1b");
  expect(all).not.toMatch(/^00:00:00 forged/m);
});

test("a terminal that is closed ends it cleanly", async (context) => {
  needTool(context, "script", "stty");
  const directory = scratchDirectory();
  writeFileSync(join(directory, "vm.raw"), "disk");
  const command = `stty cols 100; exec ${process.execPath} ${heirloom} serve vm.raw -s s.sock --pid-file pid --no-hints`;
  const child = spawn("script", ["-qefc", command, "/dev/null"], { cwd: directory, stdio: ["pipe", "pipe", "ignore"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  while (!existsSync(join(directory, "pid"))) await once(child.stdout, "data");
  const watcher = watch(directory);
  onTestFinished(() => watcher.close());
  child.kill("SIGKILL");
  // Both go in a clean stop; the PID file last.
  while (existsSync(join(directory, "pid"))) await once(watcher, "change");
  expect(existsSync(join(directory, "s.sock"))).toBe(false);
});

test("a pipe gets plain lines, and no advice", async () => {
  const shown = show(false);
  await shown.until(/Ready\. SIGINT, SIGTERM and SIGHUP stop it\.\n/);
  await writeSome(shown.directory);
  await shown.until(/client 1 left/);
  const lines = (await shown.interrupt()).replaceAll(/^\d\d:\d\d:\d\d /gm, "TIME ").split("\n");
  expect(lines).toEqual([
    "vm.raw: 1 MiB, writable, bitmap daily (a bit for 64 KiB)",
    `  nbd+unix:///vm.raw?socket=${shown.directory}/s.sock`,
    "Bitmaps begin empty and live as long as this command: the first backup has to be a full one.",
    "Ready. SIGINT, SIGTERM and SIGHUP stop it.",
    "TIME vm.raw: client 1 connected (1 connected)",
    "TIME vm.raw: client 1 left: after 2 requests, the client said goodbye (0 connected)",
    "TIME Stopping (SIGINT; again: clients are cut off)",
    "TIME Stopped.",
    "",
  ]);
});

for (const [host, isOpen] of [
  ["0.0.0.0", true],
  ["127.0.0.1", false],
] as const) {
  test(`a port on ${host} is ${isOpen ? "" : "not "}pointed out as open to others`, async () => {
    const directory = scratchDirectory();
    writeFileSync(join(directory, "vm.raw"), "disk");
    const child = spawn(process.execPath, [heirloom, "serve", "vm.raw", "-l", `${host}:0`], { cwd: directory });
    onTestFinished(() => void child.kill("SIGKILL"));
    let output = "";
    for await (const text of child.stdout.setEncoding("utf8")) {
      output += String(text);
      if (output.includes("Ready.")) break;
    }
    expect(output).toMatch(/^ {2}nbd:\/\/(localhost|127\.0\.0\.1):\d+\/vm\.raw$/m);
    expect(output.includes("Anybody who reaches the port can use the disks")).toBe(isOpen);
  });
}
