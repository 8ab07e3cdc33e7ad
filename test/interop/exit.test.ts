/** A process that serves ends when it is told to, whatever its threads wait for: here for clients: one has nothing to ask, or the last one has gone. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { needTool, scratchDirectory } from "../../packages/block/src/tool.fixture.ts";

/** Serves a disk, says where, and ends in its way when a line comes in. */
const serve = (directory: string, end: string): string => `
  import { createRuntime } from "@heirloom/runtime";
  const runtime = createRuntime();
  const filename = ${JSON.stringify(join(directory, "disk.raw"))};
  const disk = await runtime.attach({ driver: "file", filename, create: { length: 2 ** 20 } });
  const server = await runtime.serveNbd({ listen: [{ path: ${JSON.stringify(join(directory, "sock"))} }] });
  const exported = await server.add({ disk, writable: true });
  process.stdin.once("data", () => { ${end} });
  console.log(exported.uris[0]);
`;

const ends = [
  { end: "process.exit(3)", code: 3 },
  { end: "throw new Error('planned')", code: 1 },
];
const cases = ends.flatMap(({ end, code }) => ["is idle", "has gone"].map((client) => ({ end, code, client })));

test.for(cases)("a process whose client $client ends with $end", async ({ end, code, client }, context) => {
  needTool(context, "qemu-io");
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const server = spawn(process.execPath, ["--input-type=module", "-e", serve(scratchDirectory(), end)], { cwd });
  onTestFinished(() => void server.kill("SIGKILL"));
  const ended = once(server, "exit");
  const [uri] = (await once(server.stdout, "data")) as [Buffer];
  const guest = spawn("qemu-io", ["-f", "raw", uri.toString().trim()]);
  onTestFinished(() => void guest.kill("SIGKILL"));
  guest.stdin.on("error", () => {}); // the server is gone
  guest.stdin.write("read 0 4k\n");
  await once(guest.stdout, "data");
  if (client === "has gone") {
    guest.stdin.end();
    await once(guest, "exit");
  }
  server.stdin.write("now\n");
  expect(await ended).toEqual([code, null]);
});
