/** What a session answers, byte for byte, against what qemu-storage-daemon answers. */
import { expect, test } from "vitest";
import { type RawMonitor, needQemu, startQemu } from "../qemu.fixture.ts";
import { commands as table } from "../table/command-table.ts";
import { corpus, seeded, soup } from "../wire/json-corpus.fixture.ts";
import { CommandSet } from "./command-set.ts";
import { type Output, Session } from "./session.ts";

/** A session whose lines are kept. */
class Kept implements Output {
  text = "";
  readonly unsent = 0;
  write(text: string): void {
    this.text += text;
  }
  async drained(): Promise<void> {}
  drop(): void {}
  pause(): void {}
  resume(): void {}
  take(): string {
    const taken = this.text;
    this.text = "";
    return taken;
  }
}

interface Pair {
  readonly qemu: RawMonitor;
  readonly session: Session;
  readonly output: Kept;
}

let markers = 0;

/** Both get the bytes, then a reset and a command that nobody has: what was answered until then is the answer. */
async function answers(pair: Pair, input: string, chunkOf: () => number): Promise<{ ours: string; qemu: string }> {
  const marker = `marker-${markers++}`;
  const bytes = Buffer.from(`${input}\n\x01{"execute":"nosuch","id":"${marker}"}`, "latin1");
  pair.qemu.send(bytes);
  const qemu = await pair.qemu.until((line) => line.includes(`"id": "${marker}"`));
  for (let at = 0; at < bytes.length;) {
    const length = chunkOf();
    pair.session.feed(bytes.subarray(at, at + length));
    at += length;
  }
  while (!pair.output.text.includes(`"id": "${marker}"`)) await new Promise((resolve) => setImmediate(resolve));
  return { ours: pair.output.take(), qemu };
}

async function makePair(version: RawMonitor): Promise<Pair> {
  const greeting = JSON.parse(await version.line()) as {
    QMP: { version: { qemu: { major: number; minor: number; micro: number }; package: string } };
  };
  const { qemu, package: name } = greeting.QMP.version;
  const { major, minor, micro } = qemu;
  const output = new Kept();
  const unreachable = (): never => {
    throw new Error("no command of these tests gets that far");
  };
  const commands = new CommandSet(table, {
    "query-version": () => ({ qemu: { major, minor, micro }, package: name }),
    "block-dirty-bitmap-add": unreachable,
  });
  return {
    qemu: version,
    session: new Session({ commands, version: greeting.QMP.version, pretty: false }, output),
    output,
  };
}

test("greeting, negotiation and the texts before it are QEMU's", async (context) => {
  needQemu(context);
  const qemu = await startQemu();
  const pair = await makePair(qemu);
  expect(pair.output.take()).toMatch(/^\{"QMP": \{"version": \{"qemu": \{"micro": \d+, "minor": \d+, "major": \d+\}, /);
  for (const input of [
    '{"execute":"query-version"}',
    '{"execute":"nosuch","id":7}',
    '{"execute":"query-version","arguments":{"x":1}}',
    '{"execute":"qmp_capabilities","arguments":{"enable":["foo"]}}',
    '{"execute":"qmp_capabilities","arguments":{"enable":"foo"}}',
    '{"execute":"qmp_capabilities","arguments":{"x":1}}',
    '{"exec-oob":"qmp_capabilities"}',
    "[]",
    '{"execute":"qmp_capabilities","arguments":{"enable":["oob","oob"]},"id":{}}',
    '{"execute":"qmp_capabilities"}',
    '{"exec-oob":"query-version","id":1}',
    '{"exec-oob":"nosuch"}',
    '{"exec-oob":5}',
    '{"execute":"x","exec-oob":"y"}',
    '{"execute":"x","exec-oob":5}',
  ]) {
    const { ours, qemu: theirs } = await answers(pair, input, () => 4096);
    expect(ours, input).toBe(theirs);
  }
});

test.for([1, 3, 4096])("the corpus is answered as QEMU does, in chunks of %i bytes", async (length, context) => {
  needQemu(context);
  const qemu = await startQemu();
  const pair = await makePair(qemu);
  pair.output.take();
  await answers(pair, '{"execute":"qmp_capabilities"}', () => 4096);
  for (const input of corpus) {
    const { ours, qemu: theirs } = await answers(pair, input, () => length);
    expect(ours, JSON.stringify(input.slice(0, 200))).toBe(theirs);
  }
});

test("soup is answered as QEMU does", async (context) => {
  needQemu(context);
  const seed = Number(process.env.HEIRLOOM_SEED ?? 1);
  const random = seeded(seed);
  const pair = await makePair(await startQemu());
  pair.output.take();
  await answers(pair, '{"execute":"qmp_capabilities"}', () => 4096);
  for (let round = 0; round < 1500; round++) {
    const input = soup(random);
    const { ours, qemu } = await answers(pair, input, () => 1 + Math.floor(random() * 40));
    expect(ours, `seed ${seed}, round ${round}: ${JSON.stringify(input)}`).toBe(qemu);
  }
});
