/** The client against our own service, and against QEMU's daemon where it is there. */
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { createRuntime } from "@heirloom/runtime";
import { expect, onTestFinished, test } from "vitest";
import {
  listenOnUnixSocket,
  QmpClient,
  type QmpClientEvent,
  QmpConnectionLost,
  QmpError,
  QmpService,
} from "@heirloom/qmp";
import { scratchDirectory } from "../qemu.fixture.ts";

async function serve(): Promise<{ path: string; restart: () => Promise<void> }> {
  const runtime = createRuntime();
  const service = new QmpService({ runtime, quit: () => {} });
  const path = join(scratchDirectory(), "qmp");
  let monitor = service.addMonitor();
  let server: Server = await listenOnUnixSocket(path, (socket) => monitor.accept(socket));
  onTestFinished(async () => {
    server.close();
    await runtime.close();
    await service.close();
  });
  return {
    path,
    restart: async () => {
      server.close();
      await monitor.close();
      monitor = service.addMonitor();
      server = await listenOnUnixSocket(path, (socket) => monitor.accept(socket));
    },
  };
}

async function connected(path: string, options = {}): Promise<QmpClient> {
  const client = await QmpClient.connect({ path }, options);
  onTestFinished(() => client.close());
  return client;
}

test("commands are answered, refusals are errors with their class, and many may be on their way", async () => {
  const { path } = await serve();
  const client = await connected(path);
  expect(client.version.qemu).toEqual({ major: 7, minor: 2, micro: 0 });
  await client.execute("blockdev-add", { driver: "null-co", "node-name": "n", size: 2 ** 20 });
  await client.execute("block-dirty-bitmap-add", { node: "n", name: "b" });
  const many = await Promise.all(Array.from({ length: 100 }, () => client.execute("query-named-block-nodes")));
  expect(many.every(([node]) => node["dirty-bitmaps"]?.[0].name === "b")).toBe(true);
  const refused = await client.execute("block-job-cancel", { device: "nosuch" }).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(QmpError);
  expect(refused).toMatchObject({ class: "DeviceNotActive", desc: "Block job 'nosuch' not found" });
  await expect(client.executeAny("nosuch")).rejects.toMatchObject({ class: "CommandNotFound" });
});

test("events are iterated in order, to the end of the job, and a loop that is left takes no more", async () => {
  const { path } = await serve();
  const client = await connected(path);
  await client.execute("blockdev-add", { driver: "null-co", "node-name": "n", size: 2 ** 20, "read-zeroes": true });
  await client.execute("blockdev-add", { driver: "null-co", "node-name": "t", size: 2 ** 20 });
  const events = client.events();
  await client.execute("blockdev-backup", { "job-id": "j", device: "n", target: "t", sync: "full" });
  const story: QmpClientEvent[] = [];
  for await (const event of events) {
    story.push(event);
    if (event.name === "JOB_STATUS_CHANGE" && event.data.status === "null") break;
  }
  const told = story.map(({ name, data }) => (name === "JOB_STATUS_CHANGE" ? data.status : name));
  expect(told).toEqual(["created", "running", "waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"]);
  expect(await events.next()).toEqual({ done: true, value: undefined });
});

test("a connection that is lost fails what was on its way, ends the events, and is not made anew unless it is asked for", async () => {
  const { path, restart } = await serve();
  const client = await connected(path);
  const events = client.events();
  await restart();
  const seen: string[] = [];
  for await (const { name } of events) seen.push(name);
  expect(seen).toEqual(["CONNECTION_LOST"]);
  await expect(client.execute("query-jobs")).rejects.toBeInstanceOf(QmpConnectionLost);
});

test("with reconnectEveryMs it comes back, says so, and commands wait for it", async () => {
  const { path, restart } = await serve();
  const client = await connected(path, { reconnectEveryMs: 10 });
  const events = client.events();
  await restart();
  expect((await events.next()).value).toMatchObject({ name: "CONNECTION_LOST" });
  expect(await client.execute("query-jobs")).toEqual([]);
  expect((await events.next()).value).toMatchObject({ name: "CONNECTION_BACK" });
});

test("who listens and does not greet is given up in time", async () => {
  const path = join(scratchDirectory(), "silent");
  const server = createServer(() => {});
  server.listen(path);
  await once(server, "listening");
  onTestFinished(() => void server.close());
  await expect(QmpClient.connect({ path }, { connectTimeoutMs: 50 })).rejects.toThrow("no greeting in time");
});

test("nobody there is the system's error", async () => {
  await expect(QmpClient.connect({ path: join(scratchDirectory(), "nobody") })).rejects.toMatchObject({
    code: "ENOENT",
  });
});
