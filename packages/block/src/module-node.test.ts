/** Drivers that others wrote and that do not keep to the interface: what comes of it is an errno, and never an exception. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type BlockNode, connectNode, EIO, type NodeSpec, openNode } from "@heirloom/block";
import { expect, onTestFinished, test } from "vitest";
import { scratchDirectory } from "./tool.fixture.ts";

const ENOSPC = 28;

/** A disk of 4096 bytes whose `verbs` are replaced: the source of an object's members. */
async function broken(verbs: string): Promise<BlockNode> {
  return connectNode(await openNode({ driver: moduleOf(goodHandle, verbs) }));
}

const goodHandle = `{ driver: import.meta.url, readOnly: false, alignment: 1, clusterSize: 0, identity: "x", state: null, children: [] }`;

function moduleOf(handle: string, verbs: string): string {
  const path = join(scratchDirectory(), "driver.mjs");
  const source = `
    const node = {
      direct: undefined,
      length: () => 4096,
      read: () => 0,
      write: () => 0,
      discard: () => 0,
      writeZeroes: () => 0,
      flush: () => 0,
      status: (offset, length, extent) => { Object.assign(extent, { length, zero: true, allocated: false }); return 0; },
      resize: () => 0,
      admit: () => 0,
    };
    export const driver = { open: () => (${handle}), connect: () => ({ ...node, ${verbs} }), close: () => {} };`;
  writeFileSync(path, source);
  return pathToFileURL(path).href;
}

/** What the process was warned of while the test ran. */
function warnings(): string[] {
  const found: string[] = [];
  const note = (warning: Error): void => void found.push(warning.message);
  process.on("warning", note);
  onTestFinished(() => void process.off("warning", note));
  return found;
}

const verbs = {
  read: (node) => node.read(new Uint8Array(512), 0),
  write: (node) => node.write(new Uint8Array(512), 0),
  discard: (node) => node.discard(0, 512),
  writeZeroes: (node) => node.writeZeroes(0, 512, true),
  flush: (node) => node.flush(),
  resize: (node) => node.resize(512),
  status: (node) => node.status(0, 512, { length: 0, zero: false, allocated: false }),
} satisfies Record<string, (node: BlockNode) => number>;

test.each(Object.entries(verbs))(
  "%s that throws is an I/O error, or the error of the file system that it threw",
  async (name, call) => {
    expect(call(await broken(`${name}() { throw new Error("oops"); }`))).toBe(EIO);
    expect(call(await broken(`${name}() { throw undefined; }`))).toBe(EIO);
    expect(call(await broken(`${name}() { throw Object.assign(new Error("full"), { errno: -28 }); }`))).toBe(ENOSPC);
  },
);

test.each(Object.entries(verbs))(
  "%s that answers no errno has failed: nobody knows whether it was done",
  async (name, call) => {
    for (const answer of ["undefined", "null", "-5", "NaN", "0.5", "'EIO'", "true", "1e9", "Promise.resolve(0)"])
      expect([answer, call(await broken(`${name}: () => ${answer}`))]).toEqual([answer, EIO]);
    expect(call(await broken(`${name}: () => 28`))).toBe(ENOSPC);
  },
);

test("what was wrong is told once for each verb, with the module's name", async () => {
  const told = warnings();
  const node = await broken(`write() { throw new Error("oops"); }, flush: async () => 0`);
  for (let count = 0; count < 3; count++) node.write(new Uint8Array(1), 0);
  node.flush();
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toHaveLength(2);
  expect(told[0]).toMatch(/^driver module 'file:.*driver\.mjs': write must answer .* it threw Error: oops/);
  expect(told[1]).toContain("flush must answer as BlockNode says and throw nothing; not Promise");
});

test("an extent that is none is called data, and one that reaches too far is cut", async () => {
  const extent = { length: 0, zero: true, allocated: false };
  for (const length of ["0", "-1", "NaN", "undefined", "1.5"]) {
    const node = await broken(
      `status(o, l, e) { Object.assign(e, { length: ${length}, zero: true, allocated: false }); return 0; }`,
    );
    expect(node.status(0, 1000, extent)).toBe(0);
    expect([length, extent]).toEqual([length, { length: 1000, zero: false, allocated: true }]);
  }
  const far = await broken(
    `status(o, l, e) { Object.assign(e, { length: 9999, zero: true, allocated: false }); return 0; }`,
  );
  expect(far.status(0, 1000, extent)).toBe(0);
  expect(extent).toEqual({ length: 1000, zero: true, allocated: false });
});

test("a time to wait that is none is no wait", async () => {
  for (const wait of ["NaN", "Infinity", "undefined", "'1'", "(() => { throw 1; })()"])
    expect((await broken(`admit: () => ${wait}`)).admit("write", 1)).toBe(0);
  expect((await broken("admit: () => 7")).admit("write", 1)).toBe(7);
});

test("what a node need not have is missing above it as well, and is held to the same", async () => {
  const plain = await broken("");
  expect([plain.readNow, plain.writeZeroesFast, plain.zeroesFrom]).toEqual([undefined, undefined, undefined]);
  const all = await broken(`readNow: () => 11, writeZeroesFast() { throw 1; }, zeroesFrom: () => 1e6`);
  expect(all.readNow?.(new Uint8Array(1), 0)).toBe(11);
  expect(all.writeZeroesFast?.(0, 1, true)).toBe(EIO);
  expect(all.zeroesFrom?.(0, 100)).toBe(100);
});

test("a length that never was one is refused, and one that goes bad stays what it was", async () => {
  for (const length of ["NaN", "-1", "undefined", "2 ** 60", "(() => { throw 1; })()"]) {
    const node = await broken(`length: () => ${length}`);
    expect(() => node.length()).toThrow("expected a length of 0 to 2^53-1 whole bytes, got ");
  }
  const later = await broken("asked: 0, length() { return this.asked++ === 0 ? 512 : -1; }");
  expect([later.length(), later.length()]).toEqual([512, 512]);
});

test("a handle that is none is refused, by what is wrong with it", async () => {
  const cases = [
    ["null", "driver, alignment, identity and the rest"],
    [goodHandle.replace("readOnly: false", "readOnly: 0"), "a readOnly of true or false"],
    [goodHandle.replace("alignment: 1", "alignment: 3"), "an alignment that is a power of two"],
    [goodHandle.replace("clusterSize: 0", "clusterSize: -1"), "a clusterSize that is 0 or a power of two"],
    [goodHandle.replace(`identity: "x"`, "identity: undefined"), "an identity that is a string"],
    [goodHandle.replace("children: []", "children: null"), "a list of children"],
  ];
  for (const [handle, text] of cases) {
    const spec: NodeSpec = { driver: moduleOf(handle, "") };
    await expect(openNode(spec)).rejects.toMatchObject({
      code: "ERR_DRIVER_INVALID",
      message: expect.stringContaining(text) as string,
    });
  }
});
