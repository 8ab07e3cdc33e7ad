/** Random sequences of options from a seed: what clients send, in orders that no client would choose. */
import { exportName, info, metaContext, opt, option, text, u16, u32 } from "./option-wire.fixture.ts";

export type Random = () => number;

/** Numbers of 0 and more, below 1; the same for the same seed (mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function pick<Value>(random: Random, values: readonly Value[]): Value {
  return values[Math.floor(random() * values.length)];
}

export function many<Value>(random: Random, most: number, make: () => Value): Value[] {
  return Array.from({ length: Math.floor(random() * (most + 1)) }, make);
}

const names = ["disk", "disk", "disk", "", "nope", "größe", "x".repeat(90), "n".repeat(4097), "a\0b"];
const queries = [
  "base:allocation",
  "base:",
  "base",
  "qemu:",
  "qemu:allocation-depth",
  "qemu:dirty-bitmap:",
  "qemu:dirty-bitmap:daily",
  "qemu:dirty-bitmap:nope",
  "x:y",
  "",
  "q".repeat(5000),
];

/** An option that no server may take for the beginning of the transmission, nor for the end of the connection. */
export function haggle(random: Random): Buffer {
  const kind = random();
  const name = pick(random, names);
  if (kind < 0.15) return option(opt.list, pick(random, ["", "", "", "x"]));
  if (kind < 0.3) return info(opt.info, name, ...many(random, 4, () => Math.floor(random() * 5)));
  if (kind < 0.45) return metaContext(opt.listMetaContext, name, ...many(random, 3, () => pick(random, queries)));
  if (kind < 0.6) return metaContext(opt.setMetaContext, name, ...many(random, 3, () => pick(random, queries)));
  if (kind < 0.75) return option(opt.structuredReply, pick(random, ["", "", "", "payload"]));
  if (kind < 0.8) return option(opt.startTls, pick(random, ["", "x"]));
  if (kind < 0.85) return option(pick(random, [opt.info, opt.go]), text(name), u16(9), u16(1));
  if (kind < 0.9) return option(opt.listMetaContext, text(name), u32(3), text("base:"));
  if (kind < 0.95) return option(pick(random, [opt.info, opt.listMetaContext]), text("disk").subarray(0, 5));
  return option(pick(random, [0, 4, 12, 99, 0xffffffff]), "?".repeat(Math.floor(random() * 100)));
}

/** How a connection's options end. */
export function ending(random: Random): Buffer {
  const name = pick(random, names.slice(0, 6));
  const kind = random();
  if (kind < 0.4) return info(opt.go, name, ...many(random, 2, () => Math.floor(random() * 5)));
  if (kind < 0.6) return exportName(name);
  return option(opt.abort, pick(random, ["", "", "good bye"]));
}
