/**
 * What every node promises, whatever its driver: random requests against a plain Uint8Array, from two threads.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { type BlockNode, closeNode, connectNode, type NodeHandle, type NodeSpec, openNode } from "@heirloom/block";
import { describe, expect, test } from "vitest";
import { blockUrl, RemoteNode } from "./remote-node.fixture.ts";
import { scratchDirectory } from "./tool.fixture.ts";

export interface ContractOptions {
  /** A specification of a fresh disk of `length` zeroes; `directory` is its own. */
  readonly spec: (length: number, directory: string) => NodeSpec;
  /** False for a node of fixed length. */
  readonly resizable: boolean;
  /** Lengths of fresh disks; odd ones by default. */
  readonly lengths?: readonly number[];
  /** Where the scratch directory lies; the system's temporary directory by default. */
  readonly directory?: string;
}

type Operation =
  | { readonly verb: "write"; readonly at: number; readonly span: number; readonly seed: number }
  | { readonly verb: "zeroes"; readonly at: number; readonly span: number; readonly unmap: boolean }
  | { readonly verb: "discard" | "read"; readonly at: number; readonly span: number }
  | { readonly verb: "resize"; readonly at: number }
  | { readonly verb: "flush" };

/** Places in thousandths of the disk, or close to a border of blocks, so that edges meet. */
const at = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 0.25, 0.5, 1));
const span = fc.oneof(fc.integer({ min: 1, max: 200_000 }), fc.constantFrom(1, 511, 512, 513, 4095, 4096, 4097, 65536));
const anyOperation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ verb: fc.constant("write" as const), at, span, seed: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ verb: fc.constant("zeroes" as const), at, span, unmap: fc.boolean() }),
  fc.record({ verb: fc.constantFrom("discard" as const, "read" as const), at, span }),
  fc.record({ verb: fc.constant("resize" as const), at }),
  fc.record({ verb: fc.constant("flush" as const) }),
);
const fill: Operation = { verb: "write", at: 0, span: Number.MAX_SAFE_INTEGER, seed: 1 };
const step = fc.record({ remote: fc.boolean(), operation: anyOperation });

export function describeContract(name: string, options: ContractOptions): void {
  describe(`the contract of a node: ${name}`, () => {
    test("random requests from two threads read back as a plain array does", async () => {
      const directory = scratchDirectory(options.directory);
      let opened = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...(options.lengths ?? [1, 777_777, 1_048_576])),
          fc.array(step, { minLength: 1, maxLength: 120, size: "max" }),
          fc.boolean(),
          async (length, steps, filled) => {
            const handle = await openNode(options.spec(length, `${directory}/${opened++}`));
            const remote = await RemoteNode.start(handle);
            try {
              const first = filled ? [{ remote: false, operation: fill }] : [];
              runAgainstModel(connectNode(handle), remote, length, [...first, ...steps], options.resizable);
            } finally {
              await remote.end();
              closeNode(handle);
            }
          },
        ),
        { numRuns: 6 },
      );
    });

    test("two threads that write side by side at once lose nothing", async () => {
      const directory = scratchDirectory(options.directory);
      const length = options.lengths?.at(-1) ?? 1_048_576;
      const handle = await openNode(options.spec(length, `${directory}/parallel`));
      await expectParallelWritesToHold(handle, length);
      closeNode(handle);
    });

    test("a fresh disk has the length that was asked for and reads as zeroes", async () => {
      const directory = scratchDirectory(options.directory);
      const length = options.lengths?.at(-1) ?? 1_048_576;
      const handle = await openNode(options.spec(length, `${directory}/fresh`));
      const node = connectNode(handle);
      expect(node.length()).toBe(length);
      const bytes = new Uint8Array(length).fill(1);
      expect(node.read(bytes, 0)).toBe(0);
      expect(bytes.every((byte) => byte === 0)).toBe(true);
      closeNode(handle);
    });
  });
}

function runAgainstModel(
  local: BlockNode,
  remote: BlockNode,
  length: number,
  steps: readonly { remote: boolean; operation: Operation }[],
  resizable: boolean,
): void {
  let model: Uint8Array = new Uint8Array(length);
  for (const { remote: elsewhere, operation } of steps) {
    const node = elsewhere ? remote : local;
    model = apply(node, model, operation, resizable);
    expect((elsewhere ? local : remote).length()).toBe(model.length);
  }
  expectSame(remote, model, 0, model.length);
  expectSame(local, model, 0, model.length);
  expectTrueStatus(local, model);
  expectTrueStatus(remote, model);
}

function apply(node: BlockNode, model: Uint8Array, operation: Operation, resizable: boolean): Uint8Array {
  if (operation.verb === "flush") {
    expect(node.flush()).toBe(0);
    return model;
  }
  if (operation.verb === "resize") {
    if (!resizable) return model;
    const next = new Uint8Array(Math.round(operation.at * 1_048_576));
    next.set(model.subarray(0, next.length));
    expect(node.resize(next.length)).toBe(0);
    return next;
  }
  const offset = Math.min(Math.floor(operation.at * model.length), model.length);
  const length = Math.min(operation.span, model.length - offset);
  if (length === 0) return model;
  switch (operation.verb) {
    case "write": {
      const data = new Uint8Array(length).map((_, index) => (operation.seed * 31 + index * 7) & 0xff);
      const before = data.slice();
      expect(node.write(data, offset)).toBe(0);
      expect(Buffer.compare(data, before), "a write leaves its buffer alone").toBe(0);
      model.set(data, offset);
      break;
    }
    case "zeroes":
      expect(node.writeZeroes(offset, length, operation.unmap)).toBe(0);
      model.fill(0, offset, offset + length);
      break;
    case "discard": {
      expect(node.discard(offset, length)).toBe(0);
      // "Anything" is still only zeroes or what was there, and only inside the range (checked at the end).
      const after = new Uint8Array(length);
      expect(node.read(after, offset)).toBe(0);
      for (let index = 0; index < length; index++) {
        if (after[index] !== 0 && after[index] !== model[offset + index]) {
          throw new Error(`discard left ${after[index]} at ${offset + index}`);
        }
      }
      model.set(after, offset);
      break;
    }
    case "read":
      expectSame(node, model, offset, length);
      break;
  }
  return model;
}

function expectSame(node: BlockNode, model: Uint8Array, offset: number, length: number): void {
  const read = new Uint8Array(length).fill(0xee);
  expect(node.read(read, offset)).toBe(0);
  if (Buffer.compare(read, model.subarray(offset, offset + length)) === 0) return;
  const index = read.findIndex((byte, position) => byte !== model[offset + position]);
  throw new Error(`byte ${offset + index} is ${read[index]}, expected ${model[offset + index]}`);
}

/** Zero is never said of data, and extents make progress and stay in what was asked. */
function expectTrueStatus(node: BlockNode, model: Uint8Array): void {
  const extent = { length: 0, zero: false, allocated: false };
  for (let offset = 0; offset < model.length; offset += extent.length) {
    const asked = model.length - offset;
    expect(node.status(offset, asked, extent)).toBe(0);
    expect(extent.length).toBeGreaterThanOrEqual(1);
    expect(extent.length).toBeLessThanOrEqual(asked);
    if (!extent.zero) continue;
    const liar = model.subarray(offset, offset + extent.length).findIndex((byte) => byte !== 0);
    expect(liar, "data inside an extent that was called zero").toBe(-1);
  }
}

async function expectParallelWritesToHold(handle: NodeHandle, length: number): Promise<void> {
  // Interleaved records of 1000 bytes: neighbours share every page and block.
  const program = `
    const { workerData } = require("node:worker_threads");
    import(workerData.blockUrl).then(async (block) => {
      await block.loadDrivers(workerData.handle);
      const node = block.connectNode(workerData.handle);
      const record = new Uint8Array(1000);
      for (let index = workerData.first; (index + 1) * 1000 <= workerData.length; index += 2) {
        const errno = node.write(record.fill(1 + (index % 250)), index * 1000);
        if (errno !== 0) process.exit(errno);
      }
    });`;
  const exits = [0, 1].map((first) =>
    once(new Worker(program, { eval: true, workerData: { blockUrl, handle, length, first } }), "exit"),
  );
  expect((await Promise.all(exits)).flat()).toEqual([0, 0]);
  const node = connectNode(handle);
  const record = new Uint8Array(1000);
  for (let index = 0; (index + 1) * 1000 <= length; index++) {
    expect(node.read(record, index * 1000)).toBe(0);
    if (!record.every((byte) => byte === 1 + (index % 250))) throw new Error(`record ${index} was lost`);
  }
}
