// How long a mark, a test and a scan take. Build first, then: node packages/bitmap/bench/marking.mjs
// One thread, 1 TiB at 64 KiB granularity, 2^20 marks of 4 KiB a round; nanoseconds are per mark.
import { SharedBitmap } from "@heirloom/bitmap";
import { Bench } from "tinybench";

const granularity = 65536;
const length = 2 ** 40;
const marks = 2 ** 20;

const bitmap = SharedBitmap.create(length, granularity);
const dirty = SharedBitmap.create(length, granularity);
dirty.set(0, marks * granularity);
const order = new Float64Array(marks);
for (let index = 0, state = 1; index < marks; index++) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  order[index] = (state >>> 12) * granularity;
}
const sparse = SharedBitmap.create(length, granularity);
for (let index = 0; index < 1000; index++) sparse.set(index * 2 ** 30, 4096);

/** What is measured, how many of it a round has, the bar in ns, and what comes before a round unmeasured. */
const rows = [
  {
    name: "mark, sequential, not yet dirty",
    count: marks,
    bar: 30,
    run: () => sequential(bitmap),
    empty: true,
  },
  { name: "mark, sequential, already dirty", count: marks, bar: 15, run: () => sequential(dirty) },
  {
    name: "mark, random (37 % already dirty)",
    count: marks,
    run: () => random(bitmap),
    empty: true,
  },
  {
    name: "mark 1 MiB (16 granules), not yet dirty",
    count: marks / 16,
    run: () => long(bitmap),
    empty: true,
  },
  { name: "test", count: marks, run: () => look(dirty) },
  { name: "find a dirty extent (1000 in 1 TiB)", count: 1000, run: () => scan(sparse) },
];

function sequential(target) {
  for (let index = 0; index < marks; index++) target.set(index * granularity, 4096);
}
function random(target) {
  for (let index = 0; index < marks; index++) target.set(order[index], 4096);
}
function long(target) {
  for (let index = 0; index < marks; index += 16) target.set(index * granularity, 2 ** 20);
}
function look(target) {
  let set = 0;
  for (let index = 0; index < marks; index++) if (target.test(index * granularity)) set++;
  return set;
}
function scan(target) {
  let found = 0;
  for (let at = target.nextDirty(0); at !== -1; at = target.nextDirty(target.nextClean(at))) found++;
  return found;
}

const bench = new Bench({ time: 500, warmupTime: 100 });
for (const { name, run, empty } of rows) bench.add(name, run, empty ? { beforeEach: () => bitmap.reset() } : {});
await bench.run();

let reached = true;
console.log(`Node ${process.version}, ${process.arch}; median over rounds`);
for (const [index, { name, count, bar }] of rows.entries()) {
  const { result } = bench.tasks[index];
  if (result.state !== "completed") throw new Error(`${name}: ${result.state}`, { cause: result.error });
  const ns = (result.latency.p50 * 1e6) / count;
  let verdict = "";
  if (bar !== undefined) {
    verdict = `  bar ${bar} ns: ${ns < bar ? "reached" : "MISSED"}`;
    reached &&= ns < bar;
  }
  console.log(`${name.padEnd(42)} ${ns.toFixed(1).padStart(7)} ns${verdict}`);
}
process.exitCode = reached ? 0 : 1;
