/** A server that closes softly, with a client whose write hangs in the disk, is told to hurry. */
import { faultReached, releaseHang } from "@heirloom/block";
import { NbdClient } from "@heirloom/nbd";
import { createRuntime } from "@heirloom/runtime";
import { expect, onTestFinished, test } from "vitest";
import { socketPath } from "./socket.fixture.ts";

test("a soft close becomes a hard one: the client is cut off, and the close ends when the device lets go", async () => {
  const runtime = createRuntime();
  onTestFinished(() => runtime.close());
  const disk = await runtime.attach({
    driver: "fault",
    file: { driver: "memory", size: 2 ** 20 },
    rules: [{ kind: "write", action: { hang: true }, nth: 1 }],
  });
  const server = await runtime.serveNbd({ listen: [{ path: socketPath() }] });
  const exported = await server.add({ disk, writable: true });
  const client = await NbdClient.connect(exported.uris[0]);
  onTestFinished(() => client.destroy());
  const write = client.write(new Uint8Array(512), 0).then(
    () => "answered",
    (error: unknown) => (error as { code?: string }).code,
  );
  await faultReached(disk.node, 0);

  const begun = performance.now();
  const closed = server.close();
  const hastened = server.close({ force: true });
  expect(await write).toBe("ERR_NBD_DISCONNECTED");
  expect(performance.now() - begun).toBeLessThan(4000); // by itself a soft end turns hard after 5 seconds
  releaseHang(disk.node);
  expect(await Promise.all([closed, hastened])).toEqual([false, false]);
  expect(server.exports).toEqual([]);
});
