/**
 * Running schedules, one after the other. Worker 0 lays out the memory, hands the baton round so that everybody makes its
 * own sight of it, starts the schedule, and looks at what is left.
 */
import { loadDrivers } from "../../packages/block/dist/index.js";
import { Actor } from "./actor.mjs";
import {
  chosenStart,
  field,
  header,
  operations,
  optionsStart,
  pointsStart,
  status,
  threadWord,
  traceFields,
  traceStart,
} from "./control-words.mjs";
import { diskHandle, storage } from "./disks.mjs";
import { lab } from "./lab.mjs";
import { Oracle } from "./oracle.mjs";
import { nextPath, strategies } from "./strategy.mjs";
import { World } from "./world.mjs";

await loadDrivers(/** @type {any} */ (diskHandle(0, 0)));

/**
 * @typedef {{ arena: SharedArrayBuffer, disks: SharedArrayBuffer, oracle: SharedArrayBuffer, images: SharedArrayBuffer, registry: SharedArrayBuffer, planText: SharedArrayBuffer }} Parts
 * @typedef {{ scenario: string, mode: "seeds" | "exhaustive", from: number, count: number, bound: number, milliseconds?: number | undefined }} Job
 * @typedef {object} Scenario
 * @property {string} name
 * @property {string[]} threads
 * @property {number[]} [mortal] threads that may die
 * @property {(world: World) => any} setup returns what the threads want to know
 * @property {(world: World) => void} main
 * @property {(actor: Actor) => () => number | void} thread
 * @property {(world: World) => string | void} check returns what kind of end it was, to be counted
 */

/** @param {Parts} parts */
function open(parts) {
  storage.bytes = new Uint8Array(parts.disks);
  return {
    oracle: new Oracle(parts.oracle, parts.images),
    address: { registry: parts.registry, channel: "interleave", arenas: [parts.arena] },
  };
}

/** A thread's side of a batch. @param {Scenario} scenario @param {Parts} parts */
export function serve(scenario, parts) {
  const { oracle, address } = open(parts);
  const text = new Uint8Array(parts.planText);
  const next = () => (lab.self + 1 < scenario.threads.length ? lab.self + 1 : 0);
  for (;;) {
    lab.takeBaton();
    if (lab.words[header.stop] !== 0) return lab.hand(next());
    const plan = JSON.parse(new TextDecoder().decode(text.slice(0, lab.words[header.planLength])));
    const actor = new Actor(plan, oracle, address, lab.self);
    const body = scenario.thread(actor);
    lab.hand(next());
    lab.takeBaton();
    lab.run(() => lab.post(lab.self * 100 + (body() ?? 0)));
  }
}

/** Worker 0's side. @param {Scenario} scenario @param {Job} job @param {Parts} parts */
export function runBatch(scenario, job, parts) {
  const { oracle, address } = open(parts);
  const { words } = lab;
  const text = new Uint8Array(parts.planText);
  const begin = process.hrtime.bigint();
  const passed = () => Number(process.hrtime.bigint() - begin) / 1e6;
  const result = {
    schedules: 0,
    steps: 0,
    complete: false,
    milliseconds: 0,
    hash: 0,
    kinds: /** @type {Record<string, number>} */ ({}),
    failure: /** @type {any} */ (undefined),
  };

  /** @param {number} seed @param {number} length steps of a schedule without preemptions */
  const one = (seed, length) => {
    prepareWords(words, scenario, job, seed, length);
    const world = new World({
      arena: parts.arena,
      registry: parts.registry,
      oracle,
      threads: scenario.threads.length,
      seed,
    });
    const plan = world.plan(scenario.setup(world));
    const json = new TextEncoder().encode(JSON.stringify(plan));
    text.set(json);
    words[header.planLength] = json.length;
    world.sight = new Actor(plan, oracle, address, 0);
    lab.hand(1);
    lab.takeBaton();
    const mine = lab.run(() => {
      lab.park(0);
      scenario.main(world);
      world.drain();
    });
    if (!mine) lab.takeBaton();
    result.schedules++;
    result.steps += words[header.steps];
    result.hash = (Math.imul(result.hash, 31) + traceHash(words)) | 0;
    if (words[header.failed] === 0) {
      try {
        const kind = scenario.check(world) ?? "";
        result.kinds[kind] = (result.kinds[kind] ?? 0) + 1;
      } catch (error) {
        if (words[header.failed] === 0)
          result.failure = { message: error instanceof Error ? error.message : String(error) };
      }
    }
    if (words[header.failed] !== 0)
      result.failure = { message: new TextDecoder().decode(lab.failureText.slice(0, words[header.failureLength])) };
    if (result.failure !== undefined)
      Object.assign(result.failure, { seed, path: pathOf(words), trace: traceOf(words, scenario, world) });
    world.close();
    return words[header.steps];
  };

  const calibration = one(-1, 1);
  if (result.failure === undefined) {
    if (job.mode === "seeds") {
      for (let seed = job.from; seed < job.from + job.count && result.failure === undefined; seed++) {
        one(seed, calibration);
        if (job.milliseconds !== undefined && passed() > job.milliseconds) break;
      }
    } else {
      words[header.prefixLength] = 0;
      for (let count = 0; count < job.count && result.failure === undefined; count++) {
        one(0, calibration);
        if (!nextPath(words)) {
          result.complete = true;
          break;
        }
        if (job.milliseconds !== undefined && passed() > job.milliseconds) break;
      }
    }
  }
  words[header.stop] = 1;
  lab.hand(1);
  lab.takeBaton();
  words[header.stop] = 0;
  result.milliseconds = passed();
  return result;
}

/** @param {Int32Array} words @param {Scenario} scenario @param {Job} job @param {number} seed @param {number} length */
function prepareWords(words, scenario, job, seed, length) {
  const prefix = words[header.prefixLength];
  for (const name of [
    "ending",
    "failed",
    "steps",
    "clockUs",
    "forcedTimeouts",
    "traceLength",
    "pointCount",
    "lowest",
    "killed",
    "choiceCount",
    "spent",
    "mailHead",
    "mailTail",
    "killMask",
  ]) {
    words[header[name]] = 0;
  }
  words[header.threads] = scenario.threads.length;
  words[header.killAt] = -1;
  words[header.seed] = seed;
  words[header.stepsSoft] = 4000;
  words[header.stepsMax] = 30_000;
  words[header.random] = Math.imul(seed + 0x9e37_79b9, 0x85eb_ca6b) || 1;
  for (let thread = 0; thread < scenario.threads.length; thread++) {
    words.fill(0, threadWord(thread, field.status), threadWord(thread, 15));
    words[threadWord(thread, field.status)] = status.runnable;
  }
  const mortal = scenario.mortal ?? [];
  if (job.mode === "exhaustive" || seed === -1) {
    words[header.strategy] = strategies.path;
    words[header.bound] = seed === -1 ? 0 : job.bound;
    words[header.prefixLength] = seed === -1 ? 0 : prefix;
    if (seed !== -1) for (const thread of mortal) words[header.killMask] |= 1 << thread;
    return;
  }
  const { strategy } = lab;
  for (let warm = 0; warm < 8; warm++) strategy.random(2);
  words[header.strategy] = strategy.random(3) === 0 ? strategies.walk : strategies.priorities;
  words[header.switchOdds] = 2 + strategy.random(24);
  words[header.timeoutOdds] = [0, 300, 60][strategy.random(3)];
  for (let thread = 0; thread < scenario.threads.length; thread++)
    words[threadWord(thread, field.priority)] = strategy.random(1000);
  words[header.pointCount] = 1 + strategy.random(5);
  for (let point = 0; point < words[header.pointCount]; point++)
    words[pointsStart + point] = strategy.random(length + 20);
  if (mortal.length > 0 && strategy.random(8) !== 0) {
    words[header.killAt] = strategy.random(length + 20);
    words[header.killThread] = mortal[strategy.random(mortal.length)];
  }
}

/** @param {Int32Array} words */
function traceHash(words) {
  let hash = words[header.steps];
  const end = traceStart + words[header.traceLength] * traceFields;
  for (let at = traceStart; at < end; at++) hash = (Math.imul(hash, 31) + words[at]) | 0;
  return hash;
}

/** @param {Int32Array} words */
function pathOf(words) {
  return Array.from(
    words.subarray(chosenStart, chosenStart + words[header.choiceCount]),
    (choice, at) => `${choice}/${words[optionsStart + at]}`,
  )
    .map((text, at) => (text.startsWith("0/") ? "" : `${at}:${text}`))
    .filter((text) => text !== "")
    .join(" ");
}

/** @param {Int32Array} words @param {Scenario} scenario @param {World} world */
function traceOf(words, scenario, world) {
  const lines = [];
  for (let index = 0; index < words[header.traceLength]; index++) {
    const at = traceStart + index * traceFields;
    const [thread, what, buffer, offset, result] = words.subarray(at, at + traceFields);
    const place = buffer === 0 ? "" : ` ${world.describe(buffer, offset)}`;
    lines.push(
      `${String(index).padStart(5)} ${scenario.threads[thread].padEnd(10)} ${operations[what]}${place} -> ${result}`,
    );
  }
  for (let thread = 0; thread < scenario.threads.length; thread++) {
    lines.push(
      `      ${scenario.threads[thread]}: status ${words[threadWord(thread, field.status)]}, at ${operations[words[threadWord(thread, field.operation)]]} ${world.describe(words[threadWord(thread, field.buffer)], words[threadWord(thread, field.offset)])}`,
    );
  }
  return lines;
}
