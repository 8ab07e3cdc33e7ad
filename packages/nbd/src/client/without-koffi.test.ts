/** Without koffi threads have no sockets: a node is refused in a sentence, and the client on the event loop works. */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { nbdkit } from "./peers.fixture.ts";

test("a node is refused, a client is not", async (context) => {
  const peer = await nbdkit(context, ["memory", "1M"]);
  const program = `
    import { openNode } from ${JSON.stringify(import.meta.resolve("@heirloom/block"))};
    import { NbdClient, nbdNode } from ${JSON.stringify(import.meta.resolve("@heirloom/nbd"))};
    const error = await openNode(nbdNode({ path: ${JSON.stringify(peer.socket)} })).catch((error) => error);
    const client = await NbdClient.connect(${JSON.stringify(peer.uri())});
    await client.read(new Uint8Array(512), 0);
    await client.close();
    console.log(JSON.stringify({ code: error.code, message: error.message }));`;
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", program], {
    encoding: "utf8",
    env: { ...process.env, HEIRLOOM_NO_KOFFI: "1" },
  });
  const { code, message } = JSON.parse(output) as { code: string; message: string };
  expect(code).toBe("ERR_NOT_SUPPORTED");
  expect(message).toContain("no koffi");
});
