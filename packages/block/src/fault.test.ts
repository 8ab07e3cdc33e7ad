import { once } from "node:events";
import { Worker } from "node:worker_threads";
import {
  armFault,
  type BlockNode,
  connectNode,
  disarmFault,
  EIO,
  ENOSPC,
  type FaultRule,
  faultCount,
  faultReached,
  type NodeHandle,
  openNode,
  releaseHang,
} from "@heirloom/block";
import { expect, test } from "vitest";
import { blockUrl, RemoteNode } from "./remote-node.fixture.ts";

const block = new Uint8Array(512);

async function withRules(...rules: FaultRule[]): Promise<{ handle: NodeHandle; node: BlockNode }> {
  const handle = await openNode({ driver: "fault", file: { driver: "memory", size: 65536 }, rules });
  return { handle, node: connectNode(handle) };
}

/** A thread that runs `body` with `node`, and exits. */
function onThread(handle: NodeHandle, body: string): Worker {
  const program = `
    const { workerData } = require("node:worker_threads");
    import(workerData.blockUrl).then(async (block) => {
      await block.loadDrivers(workerData.handle);
      const node = block.connectNode(workerData.handle);
      ${body}
    });`;
  return new Worker(program, { eval: true, workerData: { blockUrl, handle } });
}

function errors(node: BlockNode, count: number): number[] {
  return Array.from({ length: count }, () => node.write(block, 0));
}

test("nth fails that request alone, nth with always all from there, every each so-manieth", async () => {
  const action = { error: "EIO" } as const;
  const kind = "write" as const;
  expect(errors((await withRules({ kind, nth: 3, action })).node, 5)).toEqual([0, 0, EIO, 0, 0]);
  expect(errors((await withRules({ kind, nth: 3, always: true, action })).node, 5)).toEqual([0, 0, EIO, EIO, EIO]);
  expect(errors((await withRules({ kind, every: 2, action })).node, 6)).toEqual([0, EIO, 0, EIO, 0, EIO]);
  expect(errors((await withRules({ kind, nth: 1, every: 3, action })).node, 5)).toEqual([EIO, 0, 0, EIO, 0]);
  expect(errors((await withRules({ kind, once: true, action })).node, 3)).toEqual([EIO, 0, 0]);
  expect(errors((await withRules({ kind, action })).node, 3)).toEqual([EIO, EIO, EIO]);
});

test("a rule matches by kind", async () => {
  const kinds = ["read", "write", "discard", "write-zeroes", "flush", "status"] as const;
  const extent = { length: 0, zero: false, allocated: false };
  for (const kind of [...kinds, "any"] as const) {
    const { node } = await withRules({ kind, action: { error: ENOSPC } });
    const answers = {
      read: node.read(block, 0),
      write: node.write(block, 0),
      discard: node.discard(0, 512),
      "write-zeroes": node.writeZeroes(0, 512, true),
      flush: node.flush(),
      status: node.status(0, 512, extent),
    };
    for (const asked of kinds) expect(answers[asked]).toBe(kind === "any" || kind === asked ? ENOSPC : 0);
  }
});

test("a rule with a range matches requests that touch it, and flushes only by their kind", async () => {
  const { node } = await withRules({ kind: "any", offset: 1024, length: 512, action: { error: "EIO" } });
  expect(node.write(block, 512)).toBe(0);
  expect(node.write(block, 513)).toBe(EIO);
  expect(node.write(block, 1535)).toBe(EIO);
  expect(node.write(block, 1536)).toBe(0);
  expect(node.flush()).toBe(0);
});

test("a failed request does not reach the node below", async () => {
  const { handle, node } = await withRules({ kind: "write", nth: 1, action: { error: "EIO" } });
  expect(node.write(new Uint8Array(512).fill(1), 0)).toBe(EIO);
  const below = new Uint8Array(512);
  expect(connectNode(handle.children[0]).read(below, 0)).toBe(0);
  expect(below.every((byte) => byte === 0)).toBe(true);
});

test("requests are counted over all threads", async () => {
  const { handle, node } = await withRules({ kind: "write", nth: 3, action: { error: "EIO" } });
  const remote = await RemoteNode.start(handle);
  expect([node.write(block, 0), remote.write(block, 0)]).toEqual([0, 0]);
  expect(remote.write(block, 0)).toBe(EIO);
  expect(node.write(block, 0)).toBe(0);
  await remote.end();
});

test("arming counts from there, disarming stops, from any thread", async () => {
  const { handle, node } = await withRules({ kind: "write", nth: 2, armed: false, action: { error: "EIO" } });
  const remote = await RemoteNode.start(handle);
  expect(errors(node, 3)).toEqual([0, 0, 0]);
  armFault(handle, 0);
  expect([remote.write(block, 0), node.write(block, 0), node.write(block, 0)]).toEqual([0, EIO, 0]);
  expect(faultCount(handle, 0)).toBe(1);
  armFault(handle, 0);
  expect(faultCount(handle, 0)).toBe(0);
  disarmFault(handle, 0);
  expect(errors(remote, 3)).toEqual([0, 0, 0]);
  await remote.end();
});

test("a hang holds every thread that meets it until it is released, then the request goes on", async () => {
  const { handle } = await withRules({ kind: "write", action: { hang: true } });
  const body = `process.exit(node.write(new Uint8Array(512).fill(7), 0));`;
  const exits = [onThread(handle, body), onThread(handle, body)].map((worker) => once(worker, "exit"));
  await faultReached(handle, 0, 2);
  const below = new Uint8Array(1);
  connectNode(handle.children[0]).read(below, 0);
  expect(below[0]).toBe(0);
  releaseHang(handle);
  expect((await Promise.all(exits)).flat()).toEqual([0, 0]);
  connectNode(handle.children[0]).read(below, 0);
  expect(below[0]).toBe(7);
});

test("a release can answer an errno, and what comes later hangs again", async () => {
  const { handle } = await withRules({ kind: "write", action: { hang: true } });
  for (const [count, errno] of [
    [1, EIO],
    [2, 0],
  ] as const) {
    const exit = once(onThread(handle, `process.exit(node.write(new Uint8Array(512), 0));`), "exit");
    await faultReached(handle, 0, count);
    releaseHang(handle, errno);
    expect(await exit).toEqual([errno]);
  }
});

test("a delay takes its time and then lets the request through", async () => {
  const { node } = await withRules({ kind: "read", action: { delayMs: 30 } });
  const start = performance.now();
  expect(node.read(block, 0)).toBe(0);
  expect(performance.now() - start).toBeGreaterThanOrEqual(29);
});

test("an exit rule ends the worker thread in the middle of a request", async () => {
  const { handle } = await withRules({ kind: "flush", action: { exit: true } });
  const worker = onThread(
    handle,
    `node.write(new Uint8Array(1).fill(1), 0); node.flush(); node.write(new Uint8Array(1).fill(2), 0);`,
  );
  expect(await once(worker, "exit")).toEqual([1]);
  const below = new Uint8Array(1);
  connectNode(handle).read(below, 0);
  expect(below[0]).toBe(1);
});

test("rules that say nothing or two things are refused, by their index", async () => {
  const refuse = async (rule: object, text: string): Promise<void> => {
    const good = { kind: "read", action: { error: "EIO" } };
    const spec = { driver: "fault", file: { driver: "memory", size: 512 }, rules: [good, rule] };
    await expect(openNode(spec)).rejects.toMatchObject({
      code: "ERR_NODE_OPTION",
      message: expect.stringContaining(text) as string,
    });
  };
  await refuse({ kind: "read", action: {} }, "rules[1] must have exactly one action");
  await refuse({ kind: "read", action: { hang: true, exit: true } }, "rules[1] must have exactly one action");
  await refuse(
    { kind: "read", once: true, always: true, action: { hang: true } },
    "at most one of once, always, every",
  );
  await refuse({ kind: "red", action: { hang: true } }, "option 'rules[1].kind' must be one of 'any', 'read'");
  await refuse({ kind: "read", nth: 0, action: { hang: true } }, "'rules[1].nth' must be an integer of at least 1");
  await refuse({ kind: "read", action: { error: "EWHAT" } }, "'rules[1].action.error' must be the name of an errno");
});
