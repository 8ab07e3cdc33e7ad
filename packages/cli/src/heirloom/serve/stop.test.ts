/** How `heirloom serve` ends: by which signals, with which status, and within which time. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { NbdClient } from "@heirloom/nbd";
import { expect, onTestFinished, test } from "vitest";
import { heirloom, scratchDirectory, Serve } from "../command.fixture.ts";
import { HARD_STOP_MS } from "../../../dist/heirloom/serve/stop-serving.js";

function image(directory: string): string {
  const path = join(directory, "vm.raw");
  writeFileSync(path, "");
  truncateSync(path, 2 ** 20);
  return path;
}

/** A disk on which requests of a kind wait, or hang, once. */
function slow(kind: string, action: object): string {
  const rules = [{ kind, action, nth: 1 }];
  return `json:${JSON.stringify({ driver: "fault", file: { driver: "memory", size: 2 ** 20 }, rules })}=slow`;
}

/** A flush that is on its way; what it answers, or the code of its error. A helper thread does it, so others are served. */
async function beginFlush(serve: Serve): Promise<{ readonly answer: Promise<string> }> {
  const client = await NbdClient.connect(await serve.uri());
  onTestFinished(() => client.destroy());
  const answer = client.flush().then(
    () => "answered",
    (error: unknown) => (error as { code: string }).code,
  );
  // It has arrived when a request that came after it, on another connection, is answered.
  const other = await NbdClient.connect(await serve.uri());
  await other.read(new Uint8Array(512), 4096);
  await other.close();
  return { answer };
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  test(`${signal} is a clean stop`, async () => {
    const directory = scratchDirectory();
    const socket = join(directory, "s.sock");
    const serve = new Serve([image(directory), "-s", socket]);
    const client = await NbdClient.connect(await serve.uri());
    await client.write(new Uint8Array(4096).fill(65), 0);
    expect(await serve.end(signal)).toEqual({ status: 0, errors: "" });
    client.destroy();
    expect(serve.events.at(-2)).toMatchObject({ event: "disconnected", requests: 1 });
    expect(serve.events.at(-1)).toMatchObject({ event: "stopped", clean: true });
    expect(serve.events).toContainEqual(
      expect.objectContaining({ event: "stopping", signal, clients: 1, hard: false }),
    );
    expect(existsSync(socket)).toBe(false);
    expect(readFileSync(join(directory, "vm.raw"), "utf8").slice(0, 4097)).toBe(`${"A".repeat(4096)}\0`);
  });
}

test("a clean stop answers what is in flight", async () => {
  const serve = new Serve([slow("flush", { delayMs: 1500 }), "-s", join(scratchDirectory(), "s.sock")]);
  const { answer } = await beginFlush(serve);
  const end = serve.end("SIGTERM");
  expect(await answer).toBe("answered");
  expect(await end).toEqual({ status: 0, errors: "" });
});

test("where a device hangs, a clean stop ends at its deadline, says so, and leaves no socket behind", async () => {
  const socket = join(scratchDirectory(), "s.sock");
  const serve = new Serve([slow("flush", { hang: true }), "-s", socket, "--stop-timeout", "0.7"]);
  const { answer } = await beginFlush(serve);
  const begun = performance.now();
  expect(await serve.end("SIGTERM")).toMatchObject({ status: 1 });
  const took = performance.now() - begun;
  expect(took).toBeGreaterThan(690);
  expect(took).toBeLessThan(3000);
  expect(await answer).toBe("ERR_NBD_DISCONNECTED");
  const why = "after 0.7 s clients' requests are still in flight";
  expect(serve.events.at(-1)).toMatchObject({ event: "stopped", clean: false, why });
  expect(existsSync(socket)).toBe(false);
});

test("a flush that hangs at the stop is named, with what may be lost", async () => {
  const serve = new Serve([
    slow("flush", { hang: true }),
    "-s",
    join(scratchDirectory(), "s.sock"),
    "--stop-timeout",
    "0.7",
  ]);
  await serve.ready();
  expect(await serve.end("SIGTERM")).toMatchObject({ status: 1 });
  const why = "after 0.7 s 'fault' is still being flushed: what its clients did not flush themselves may be lost";
  expect(serve.events.at(-1)).toMatchObject({ event: "stopped", clean: false, why });
});

test("a flush that fails at the stop is no clean stop", async () => {
  const serve = new Serve([slow("flush", { error: "EIO" }), "-s", join(scratchDirectory(), "s.sock")]);
  await serve.ready();
  expect(await serve.end("SIGTERM")).toMatchObject({ status: 1 });
  expect(serve.events.at(-1)).toMatchObject({ clean: false, why: expect.stringContaining("flush 'fault': ") });
});

test("the second signal cuts clients off, and what hangs is left behind soon", async () => {
  const socket = join(scratchDirectory(), "s.sock");
  const serve = new Serve([slow("flush", { hang: true }), "-s", socket]);
  const { answer } = await beginFlush(serve);
  serve.child.kill("SIGTERM");
  await serve.until("stopping");
  serve.child.kill("SIGINT");
  const begun = performance.now();
  expect(await answer).toBe("ERR_NBD_DISCONNECTED");
  expect(await serve.end()).toMatchObject({ status: 1 });
  expect(performance.now() - begun).toBeLessThan(HARD_STOP_MS + 2000);
  expect(serve.events).toContainEqual(expect.objectContaining({ event: "stopping", signal: "SIGINT", hard: true }));
  expect(serve.events.at(-1)).toMatchObject({ event: "stopped", clean: false });
  expect(existsSync(socket)).toBe(false);
});

test("the third signal waits for nothing", async () => {
  const socket = join(scratchDirectory(), "s.sock");
  const serve = new Serve([slow("flush", { hang: true }), "-s", socket]);
  await beginFlush(serve);
  serve.child.kill("SIGTERM");
  await serve.until("stopping");
  serve.child.kill("SIGTERM");
  await serve.until("stopping", ({ hard }) => hard === true);
  const begun = performance.now();
  expect(await serve.end("SIGTERM")).toMatchObject({ status: 1 });
  expect(performance.now() - begun).toBeLessThan(HARD_STOP_MS - 1000);
  expect(existsSync(socket)).toBe(false);
});

test("a reader that goes away does not end the disks", async () => {
  const directory = scratchDirectory();
  const pidFile = join(directory, "pid");
  const socket = join(directory, "s.sock");
  const child = spawn(process.execPath, [heirloom, "serve", image(directory), "-s", socket, "--pid-file", pidFile], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data");
  child.stdout.destroy();
  for (let round = 0; round < 3; round++) {
    const client = await NbdClient.connect(`nbd+unix:///vm.raw?socket=${socket}`);
    await client.write(new Uint8Array(512), 0);
    await client.close();
  }
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  expect(await ended).toEqual([0, null]);
});

test("a process that is killed leaves a socket that the next one replaces", async () => {
  const directory = scratchDirectory();
  const path = image(directory);
  const socket = join(directory, "s.sock");
  const killed = new Serve([path, "-s", socket]);
  await killed.ready();
  await killed.end("SIGKILL");
  expect(existsSync(socket)).toBe(true);
  const next = new Serve([path, "-s", socket]);
  const client = await NbdClient.connect(await next.uri());
  expect(client.length).toBe(2 ** 20);
  await client.close();
  expect(await Promise.race([next.end("SIGTERM"), delay(10_000, "late")])).toEqual({ status: 0, errors: "" });
});
