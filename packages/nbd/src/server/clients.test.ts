/** What nbdinfo and QEMU's tools make of our handshake. */
import { expect, test } from "vitest";
import { runPeer } from "../peer.fixture.ts";
import { needTool } from "../tool.fixture.ts";
import { Directory, offerOf } from "./handshake.fixture.ts";
import { pattern, serveFromMemory } from "./memory-session.fixture.ts";
import { open, type Place } from "./reception.fixture.ts";

const bitmaps = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:daily"];

function server(): Promise<Place> {
  const directory = new Directory(
    offerOf("disk", { description: "the guest's disk", contexts: bitmaps }),
    offerOf("größe", { length: 3 * 1024 * 1024, flags: 0x050f }),
    offerOf("", { blockSize: { minimum: 512, preferred: 65536, maximum: 1024 * 1024 } }),
  );
  return open({ directory, onSession: serveFromMemory });
}

test("nbdinfo lists the exports", async (context) => {
  needTool(context, "nbdinfo");
  const { path } = await server();
  const { output, errors, status } = await runPeer(
    "nbdinfo",
    "--list",
    "--no-content",
    "--json",
    `nbd+unix:///?socket=${path}`,
  );
  expect(errors).toBe("");
  expect(status).toBe(0);
  const listed = JSON.parse(output) as { protocol: string; exports: Record<string, unknown>[] };
  expect(listed.protocol).toBe("newstyle-fixed");
  expect(listed.exports).toMatchObject([
    { "export-name": "disk", description: "the guest's disk", contexts: bitmaps, "export-size": 1048576 },
    { "export-name": "größe", "export-size": 3145728, is_read_only: true },
    { "export-name": "", block_size_minimum: 512, block_size_preferred: 65536, block_size_maximum: 1048576 },
  ]);
});

test("nbdinfo shows what an export can do, and reads from its session", async (context) => {
  needTool(context, "nbdinfo");
  const { path } = await server();
  const { output, status } = await runPeer("nbdinfo", "--json", `nbd+unix:///disk?socket=${path}`);
  expect(status).toBe(0);
  expect(JSON.parse(output)).toMatchObject({
    structured: true,
    exports: [
      {
        "export-name": "disk",
        contexts: bitmaps,
        is_read_only: false,
        can_df: true,
        can_fast_zero: true,
        can_fua: true,
        can_multi_conn: true,
        can_trim: true,
        can_zero: true,
        block_size_minimum: 1,
        block_size_preferred: 4096,
        block_size_maximum: 33554432,
      },
    ],
  });
});

test("nbdinfo is told that there is no such export", async (context) => {
  needTool(context, "nbdinfo");
  const { path } = await server();
  const { errors, status } = await runPeer("nbdinfo", `nbd+unix:///nothing?socket=${path}`);
  expect(status).toBe(1);
  expect(errors).toContain("nothing");
});

test("qemu-nbd lists the exports with their contexts", async (context) => {
  needTool(context, "qemu-nbd");
  const { path } = await server();
  const { output, status } = await runPeer("qemu-nbd", "--list", "-k", path);
  expect(status).toBe(0);
  expect(output).toContain("exports available: 3");
  expect(output).toMatch(/export: 'disk'\n {2}description: the guest's disk\n {2}size: {2}1048576/);
  expect(output).toMatch(/available meta contexts: 3\n {3}base:allocation\n {3}qemu:allocation-depth\n/);
  expect(output).toMatch(/export: ''\n[^']*min block: 512\n/);
});

test("qemu-img reads through a session of either kind of address", async (context) => {
  needTool(context, "qemu-img");
  const place = await server();
  const address = await place.reception.listen({ host: "127.0.0.1", port: 0 });
  if (!("port" in address)) throw new Error("no port");
  for (const uri of [`nbd+unix:///disk?socket=${place.path}`, `nbd://127.0.0.1:${address.port}/disk`]) {
    const { output, status } = await runPeer("qemu-img", "info", "--output=json", uri);
    expect(status).toBe(0);
    expect(JSON.parse(output)).toMatchObject({ format: "raw", "virtual-size": 1048576 });
  }
});

test("qemu-io sees the bytes of the session", async (context) => {
  needTool(context, "qemu-io");
  const { path } = await server();
  const uri = `nbd+unix:///disk?socket=${path}`;
  const { output } = await runPeer("qemu-io", "-r", "-f", "raw", "-c", `read -v 0 ${pattern.length}`, uri);
  expect(output).toContain("the.first.bytes");
});
