/** What an export says went through it, against what a client sent. */
import { NbdClient } from "@heirloom/nbd";
import { createRuntime } from "@heirloom/runtime";
import { expect, onTestFinished, test } from "vitest";
import { socketPath } from "./socket.fixture.ts";

test("an export counts what its clients ask for, over connections, and keeps the sum when it is gone", async () => {
  const runtime = createRuntime();
  onTestFinished(() => runtime.close());
  const disk = await runtime.attach({ driver: "memory", size: 2 ** 20 }, { name: "disk" });
  const server = await runtime.serveNbd({ listen: [{ path: socketPath() }] });
  const exported = await server.add({ disk, writable: true });
  expect(exported.traffic).toEqual({ reads: 0, writes: 0, others: 0, bytesRead: 0, bytesWritten: 0 });

  const events = runtime.events();
  const left = async (): Promise<void> => {
    for (;;) {
      const next = await events.next();
      if (next.done === true || next.value.name === "NBD_CLIENT_DISCONNECTED") return;
    }
  };
  const [uri] = exported.uris;
  for (const round of [1, 2]) {
    const client = await NbdClient.connect(uri);
    await client.write(new Uint8Array(3000 * round), 500);
    await client.read(new Uint8Array(100), 0);
    await client.read(new Uint8Array(65536), 65536);
    await client.flush();
    await client.close();
    await left();
  }
  const sum = { reads: 4, writes: 2, bytesRead: 131272, bytesWritten: 9000 };
  // The goodbye is a request as well.
  expect(exported.traffic).toEqual({ ...sum, others: 4 });
  expect(await server.close()).toBe(true);
  expect(exported.traffic).toEqual({ ...sum, others: 4 });
});
