/** Whatever arrives and however it is split: the same answers, no exception, no growth. Replay with HEIRLOOM_SEED. */
import { expect, test } from "vitest";
import type { TlsPolicy } from "../../dist/server/haggling.js";
import { ServerHandshake } from "../../dist/server/handshake.js";
import { pour, usualDirectory } from "./handshake.fixture.ts";
import { clientFlags, opt, option, parseReplies } from "./option-wire.fixture.ts";
import { ending, haggle, many, pick, type Random, randomFrom } from "./option-sequence.fixture.ts";

const seed = Number(process.env.HEIRLOOM_SEED ?? (Date.now() ^ (process.pid << 8)) >>> 0);

interface Result {
  readonly output: string;
  readonly outcome: string;
  readonly detail: string;
}

/** One connection, its bytes in pieces. */
function converse(tls: TlsPolicy, pieces: readonly Uint8Array[]): Result {
  const handshake = new ServerHandshake(usualDirectory(), tls);
  const output: Buffer[] = [];
  let unread = Buffer.alloc(0);
  let outcome: ReturnType<typeof pour>["outcome"] = { type: "more" };
  for (const [index, piece] of pieces.entries()) {
    if (outcome.type === "transmission") unread = Buffer.concat([unread, piece]);
    if (outcome.type !== "more") continue;
    const answered = pour(handshake, piece);
    outcome = answered.outcome;
    output.push(answered.output);
    if (outcome.type === "transmission") unread = Buffer.from(outcome.unread);
    // Had they come with it they would have been refused before the acknowledgement; here the caller does it.
    if (outcome.type === "startTls" && pieces.slice(index + 1).some((later) => later.length > 0)) {
      outcome = { type: "closed", code: "ERR_NBD_PROTOCOL", reason: "" };
      output.push(output.pop()!.subarray(0, -20));
    }
  }
  const detail = outcome.type === "transmission" ? JSON.stringify(outcome.negotiated) + unread.toString("hex") : "";
  return { output: Buffer.concat(output).toString("hex"), outcome: outcome.type, detail };
}

function mutate(random: Random, bytes: Buffer): Buffer {
  const mutated = Buffer.from(bytes);
  for (let left = Math.floor(random() * 4); left > 0 && mutated.length > 0; left--) {
    const at = Math.floor(random() * mutated.length);
    mutated[at] = pick(random, [0, 1, 0x7f, 0x80, 0xff, mutated[at] ^ (1 << Math.floor(random() * 8))]);
  }
  const kind = random();
  if (kind < 0.1) return mutated.subarray(0, Math.floor(random() * mutated.length));
  const at = Math.floor(random() * mutated.length);
  if (kind < 0.2) return Buffer.concat([mutated.subarray(0, at), Buffer.from("noise"), mutated.subarray(at)]);
  if (kind < 0.3) return Buffer.concat([mutated.subarray(0, at), mutated.subarray(at + 3)]);
  return mutated;
}

function conversation(random: Random): Buffer {
  const options = many(random, 5, () => (random() < 0.1 ? option(opt.extendedHeaders) : haggle(random)));
  const flags = clientFlags(pick(random, [3, 3, 3, 1, 0]));
  if (random() < 0.1) return Buffer.concat([flags, ...options, option(opt.startTls)]);
  return Buffer.concat([flags, ...options, ending(random), Buffer.from("tail")]);
}

test(`split at any byte, answers are the same (seed ${seed})`, () => {
  for (let round = 0; round < 80; round++) {
    const random = randomFrom(seed + round);
    const tls = pick<TlsPolicy>(random, ["off", "off", "required"]);
    const bytes = round % 3 === 0 ? conversation(random) : mutate(random, conversation(random));
    const whole = converse(tls, [bytes]);
    // At the first 600 bytes one by one, and at random behind them: some names are 4 KiB.
    for (let at = 0; at <= bytes.length; at += at < 600 ? 1 : 1 + Math.floor(random() * 600)) {
      const split = converse(tls, [bytes.subarray(0, at), bytes.subarray(at)]);
      expect(split, `seed ${seed}, round ${round}, split at ${at}`).toEqual(whole);
    }
    const single = Array.from(bytes, (byte) => Uint8Array.of(byte));
    expect(converse(tls, single), `seed ${seed}, round ${round}, byte by byte`).toEqual(whole);
  }
});

test(`whatever arrives, what goes out are whole replies and there is an outcome (seed ${seed})`, () => {
  const outcomes = new Map<string, number>();
  for (let round = 0; round < 3000; round++) {
    const random = randomFrom(seed + 1_000_000 + round);
    const bytes = mutate(random, conversation(random));
    const { output, outcome } = converse(pick<TlsPolicy>(random, ["off", "required"]), [bytes]);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    const sent = Buffer.from(output, "hex");
    // Only the answer to EXPORT_NAME is none, and it is the last: 10 bytes, or 134.
    const length = [10, 134].find((bytes) => sent.subarray(-bytes).toString("hex", 0, 8) === "0000000000100000");
    const bare = outcome === "transmission" ? length : undefined;
    expect(() => parseReplies(bare === undefined ? sent : sent.subarray(0, -bare)), `round ${round}`).not.toThrow();
  }
  // The generator is no good where it does not reach them all.
  expect([...outcomes.keys()].sort()).toEqual(["closed", "more", "startTls", "transmission"]);
});

test(`noise alone never gets past the greeting (seed ${seed})`, () => {
  const random = randomFrom(seed);
  for (let round = 0; round < 500; round++) {
    const noise = Uint8Array.from({ length: 12 + Math.floor(random() * 200) }, () => Math.floor(random() * 256));
    expect(converse("off", [noise])).toMatchObject({ output: "", outcome: "closed" });
  }
});
