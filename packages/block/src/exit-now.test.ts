/** In a child process, with a thread that hangs in a system call: it opens a FIFO that nobody writes to. */
import { execFile, execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { needTool, scratchDirectory } from "./tool.fixture.ts";

const block = fileURLToPath(new URL("../dist/index.js", import.meta.url));

/** `end` runs when the thread hangs; a child that has not ended after three seconds gets SIGTERM. */
function childThatHangs(end: string, environment: Record<string, string> = {}): Promise<unknown> {
  const fifo = join(scratchDirectory(), "fifo");
  execFileSync("mkfifo", [fifo]);
  const program = `
    import { readdirSync, readFileSync } from "node:fs";
    import { setImmediate } from "node:timers/promises";
    import { Worker } from "node:worker_threads";
    import { exitNow } from ${JSON.stringify(block)};
    const thread = \`
      import { openSync } from "node:fs";
      import { parentPort } from "node:worker_threads";
      parentPort.postMessage("hanging");
      openSync(${JSON.stringify(fifo)}, "r");\`;
    process.on("exit", () => console.log("exit handlers ran"));
    const worker = new Worker(new URL("data:text/javascript," + encodeURIComponent(thread)));
    await new Promise((resolve) => worker.once("message", resolve));
    // Linux says where each thread of this process sleeps.
    const sleepsInOpen = (task) => /fifo|partner/.test(readFileSync("/proc/self/task/" + task + "/wchan", "utf8"));
    const deadline = Date.now() + 2000;
    while (!readdirSync("/proc/self/task").some(sleepsInOpen) && Date.now() < deadline) await setImmediate();
    ${end}`;
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ["--input-type=module", "-e", program],
      { encoding: "utf8", timeout: 3000, env: { ...process.env, ...environment } },
      (error, output, errors) =>
        resolve({ code: error?.code ?? child.exitCode, signal: error?.signal, output, errors }),
    );
    onTestFinished(() => void child.kill("SIGKILL"));
  });
}

test("a process ends with its code at once, whatever its threads hang in", async (context) => {
  needTool(context, "mkfifo");
  expect(await childThatHangs("exitNow(7);")).toMatchObject({ code: 7, output: "", errors: "" });
});

test("without koffi it is a signal that ends it", async (context) => {
  needTool(context, "mkfifo");
  const ended = await childThatHangs("exitNow(7);", { HEIRLOOM_NO_KOFFI: "1" });
  expect(ended).toMatchObject({ signal: "SIGKILL", output: "", errors: "" });
});

test("process.exit does not: what exitNow is for", async (context) => {
  needTool(context, "mkfifo");
  expect(await childThatHangs("process.exit(7);")).toMatchObject({ signal: "SIGTERM", output: "exit handlers ran\n" });
});
