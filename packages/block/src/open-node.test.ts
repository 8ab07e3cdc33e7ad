import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import {
  BlockError,
  builtInDrivers,
  closeNode,
  connectNode,
  loadDrivers,
  type NodeHandle,
  type NodeSpec,
  openNode,
} from "@heirloom/block";
import { expect, onTestFinished, test } from "vitest";
import { RemoteNode } from "./remote-node.fixture.ts";
import { driverSource, readmeBlock } from "./readme.fixture.ts";
import { scratchDirectory } from "./tool.fixture.ts";

async function refusal(spec: object): Promise<BlockError> {
  const error: unknown = await openNode(spec as NodeSpec).then(closeNode, (reason: unknown) => reason);
  if (!(error instanceof BlockError)) throw new Error(`expected a refusal, got ${String(error)}`);
  return error;
}

function driverModule(source: string): string {
  const path = join(scratchDirectory(), "driver.mjs");
  writeFileSync(path, source);
  return pathToFileURL(path).href;
}

test("an unknown driver is refused with the list of those that are known", async () => {
  const error = await refusal({ driver: "qcow3" });
  expect(error.code).toBe("ERR_DRIVER_UNKNOWN");
  for (const name of Object.keys(builtInDrivers)) expect(error.message).toContain(name);
  expect((await refusal({ driver: "constructor" })).code).toBe("ERR_DRIVER_UNKNOWN");
});

test("options that are unknown, missing, mistyped or out of range are refused in words", async () => {
  const cases: [object, string][] = [
    [{ driver: "memory", sise: 1 }, "open memory: unknown option 'sise'; expected size, sizeMax, readOnly"],
    [{ driver: "memory" }, "open memory: option 'size' is missing; expected an integer from 0 to 4294967296 (bytes)"],
    [{ driver: "memory", size: "1" }, "open memory: option 'size' must be an integer from 0 to 4294967296, not '1'"],
    [{ driver: "memory", size: 1.5 }, "not 1.5"],
    [{ driver: "memory", size: -1 }, "not -1"],
    [{ driver: "memory", size: 2 ** 32 + 1 }, "not 4294967297"],
    [{ driver: "memory", size: 10, sizeMax: 9 }, "option 'sizeMax' must be at least 'size' (10), not 9"],
    [{ driver: "memory", size: 1, readOnly: 1 }, "option 'readOnly' must be true or false, not 1"],
    [{ driver: "file", filename: "" }, "option 'filename' must be a string that is not empty, not ''"],
    [{ driver: "file", filename: "a\0b" }, "option 'filename' must be"],
    [{ driver: "file", filename: "a", locking: "yes" }, "option 'locking' must be one of 'on', 'off', not 'yes'"],
    [{ driver: "file", filename: "a", create: 5 }, "option 'create' must be an object of length, overwrite, not 5"],
    [{ driver: "file", filename: "a", create: {} }, "option 'create.length' is missing"],
    [{ driver: "file", filename: "a", create: { length: 1, size: 1 } }, "unknown option 'create.size'"],
    [{ driver: "file", filename: "a", create: { length: 1 }, readOnly: true }, "expected readOnly: false with create"],
    [{ driver: "host_device", filename: "a", create: { length: 1 } }, "unknown option 'create'"],
    [{ driver: "raw", file: "a.raw" }, "option 'file' must be a node's specification"],
    [{ driver: "raw", file: { driver: "memory" } }, "open memory: option 'size' is missing"],
    [{ driver: "fault", file: { driver: "null-co", size: 1 }, rules: {} }, "option 'rules' must be a list of objects"],
    [{ driver: "fault", file: { driver: "null-co", size: 1 }, rules: [1] }, "'rules[0]' must be an object, not 1"],
  ];
  for (const [spec, text] of cases) {
    const error = await refusal(spec);
    expect(error.code).toBe("ERR_NODE_OPTION");
    expect(error.message).toContain(text);
  }
});

test("an option that is given as undefined is one that is not given", async () => {
  const handle = await openNode({ driver: "memory", size: 5, sizeMax: undefined, whatever: undefined });
  expect(connectNode(handle).length()).toBe(5);
});

test("an error travels as its fields and comes back whole", async () => {
  const error = await refusal({ driver: "file", filename: "/nowhere/x" });
  const back = BlockError.from(structuredClone(error.fields()));
  expect(back).toBeInstanceOf(BlockError);
  expect(back).toMatchObject({ code: "ERR_NODE_OPEN", node: "/nowhere/x", errno: 2, message: error.message });
});

test("a driver module works nested, and on a thread that was posted its handle", async () => {
  const driver = driverModule(driverSource);
  const memory = { driver: "memory", size: 4096 };
  const handle = await openNode({ driver: "raw", offset: 96, file: { driver, file: { driver, file: memory } } });
  const remote = await RemoteNode.start(handle);
  expect(remote.write(Uint8Array.of(1, 2, 0, 255), 0)).toBe(0);
  const read = new Uint8Array(4);
  connectNode(handle).read(read, 0);
  expect([...read]).toEqual([1, 2, 0, 255]);
  connectNode(handle.children[0].children[0]).read(read, 96);
  expect([...read]).toEqual([255, 254, 0, 1]);
  await remote.end();
  closeNode(handle);
});

test("the options of a driver module are checked by its table", async () => {
  const driver = driverModule(driverSource);
  expect((await refusal({ driver })).message).toContain("option 'file' is missing");
  expect((await refusal({ driver, file: { driver: "memory", size: 1 }, x: 1 })).message).toContain(
    "unknown option 'x'",
  );
});

test("a module that cannot be loaded, or is no driver, is refused", async () => {
  const missing = await refusal({ driver: "file:///nowhere/driver.mjs" });
  expect(missing).toMatchObject({ code: "ERR_DRIVER_INVALID", node: "file:///nowhere/driver.mjs" });
  expect(missing.cause).toBeDefined();
  const empty = await refusal({ driver: driverModule("export const driver = { open() {}, connect() {} };") });
  expect(empty.code).toBe("ERR_DRIVER_INVALID");
  expect(empty.message).toContain("'close' is missing");
});

test("a handle whose driver module is not loaded here says what to call", async () => {
  const handle: NodeHandle = {
    driver: driverModule(driverSource),
    readOnly: false,
    alignment: 1,
    clusterSize: 0,
    identity: "x",
    state: null,
    children: [await openNode({ driver: "memory", size: 1 })],
  };
  expect(() => connectNode(handle)).toThrow("expected a call of loadDrivers before");
  await loadDrivers(handle);
  expect(connectNode(handle).length()).toBe(1);
});

test("a driver whose handle other threads could not use is caught", async () => {
  const source = `export const driver = { open: () => ({ driver: "memory" }), connect() {}, close() {} };`;
  await expect(openNode({ driver: driverModule(source) })).rejects.toThrow(
    "with the URL that it was opened by as its driver",
  );
});

test("the README's example prints what the README says", () => {
  // Inside the package, where it can import it by name.
  const directory = mkdtempSync(join(fileURLToPath(new URL("..", import.meta.url)), "dist", "example-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "example.mjs"), readmeBlock("js example=usage"));
  const output = execFileSync(process.execPath, [join(directory, "example.mjs")], { encoding: "utf8" });
  expect(output).toBe(readmeBlock("text example-output=usage"));
});

test("null-co holds nothing, of any size", async () => {
  const node = connectNode(await openNode({ driver: "null-co", size: 2 ** 53 - 1 }));
  expect(node.length()).toBe(2 ** 53 - 1);
  const buffer = new Uint8Array(100).fill(1);
  expect(node.write(buffer, 2 ** 52)).toBe(0);
  expect(node.read(buffer, 2 ** 52)).toBe(0);
  expect(buffer.every((byte) => byte === 0)).toBe(true);
  const extent = { length: 0, zero: false, allocated: true };
  expect(node.status(0, 2 ** 50, extent)).toBe(0);
  expect(extent).toEqual({ length: 2 ** 50, zero: true, allocated: false });

  const lazy = connectNode(await openNode({ driver: "null-co", size: 100, readZeroes: false, latencyNs: 20_000_000 }));
  const start = performance.now();
  expect(lazy.read(buffer.fill(7), 0)).toBe(0);
  expect(performance.now() - start).toBeGreaterThanOrEqual(19);
  expect(buffer.every((byte) => byte === 7)).toBe(true);
  expect(lazy.status(0, 100, extent)).toBe(0);
  expect(extent).toEqual({ length: 100, zero: false, allocated: true });
});

test("memory tells touched pages from untouched ones, and grows only up to its largest size", async () => {
  const node = connectNode(await openNode({ driver: "memory", size: 65536, sizeMax: 131072 }));
  const extent = { length: 0, zero: false, allocated: false };
  node.write(Uint8Array.of(1), 8192);
  expect(node.status(0, 65536, extent)).toBe(0);
  expect(extent).toEqual({ length: 8192, zero: true, allocated: false });
  expect(node.status(8192, 50_000, extent)).toBe(0);
  expect(extent).toEqual({ length: 4096, zero: false, allocated: true });
  node.discard(8192, 4096);
  node.status(0, 65536, extent);
  expect(extent).toEqual({ length: 65536, zero: true, allocated: false });
  // Zeroes that were written are in a page that takes room; unmapping gives back whole pages.
  node.write(new Uint8Array(8192), 0);
  node.writeZeroes(100, 8092, true);
  node.status(0, 65536, extent);
  expect(extent).toEqual({ length: 4096, zero: false, allocated: true });
  node.status(4096, 60_000, extent);
  expect(extent).toEqual({ length: 60_000, zero: true, allocated: false });
  expect(node.resize(131073)).not.toBe(0);
  expect(node.resize(131072)).toBe(0);
});
