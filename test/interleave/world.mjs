/**
 * The main thread of a scenario: lays out memory with the engine's own arenas, carries transitions out as the coordinator
 * does, follows deaths as the engine does, and looks at what is left at the end.
 */
import { Arenas } from "../../packages/engine/dist/arena.js";
import { vacate } from "../../packages/engine/dist/gatekeeper.js";
import * as gateLayout from "../../packages/engine/dist/gate-layout.js";
import * as jobLayout from "../../packages/engine/dist/job-layout.js";
import { counterBytes } from "../../packages/engine/dist/io-counters.js";
import { Recorder } from "../../packages/engine/dist/recorder.js";
import { Registry } from "../../packages/engine/dist/registry.js";
import * as spillLayout from "../../packages/engine/dist/spill-layout.js";
import { Stack } from "../../packages/engine/dist/stack.js";
import { Transitions } from "../../packages/engine/dist/transition.js";
import * as viewLayout from "../../packages/engine/dist/view-layout.js";
import { ViewMemory } from "../../packages/engine/dist/view-memory.js";
import { header } from "./control-words.mjs";
import { clusterSize, descriptorOf, diskBytes, diskHandle, disksBuffer, storage } from "./disks.mjs";
import { timers } from "./instrument.mjs";
import { lab } from "./lab.mjs";

/** @typedef {import("./actor.mjs").Actor} Actor */

const arenaBytes = 16 * 1024 * 1024;
/** Threads of a scenario at most, for the counters that each has a line of. */
const counted = 16;

/** Arenas over one buffer that every thread has, from its start again for each schedule. */
class OneArena extends Arenas {
  /** @param {SharedArrayBuffer} buffer @param {number} used bytes that the last schedule used */
  constructor(buffer, used) {
    super(() => {});
    new Uint8Array(buffer, 0, used).fill(0);
    this.given = buffer;
    this.used = 0;
  }
  /** @override @param {number} byteLength @param {"zeroed" | "raw"} [kind] @returns {import("../../packages/engine/dist/arena.js").Region} */
  allocate(byteLength, kind) {
    const Real = SharedArrayBuffer;
    const { given } = this;
    /** @param {number} length */
    function Given(length) {
      if (length !== arenaBytes) throw new Error("a scenario fits into one arena");
      return given;
    }
    Given.prototype = Real.prototype;
    if (this.buffers.length === 0) Reflect.set(globalThis, "SharedArrayBuffer", Given);
    try {
      const region = super.allocate(byteLength, kind);
      this.used = Math.max(this.used, region.byteOffset + region.byteLength);
      return region;
    } finally {
      Reflect.set(globalThis, "SharedArrayBuffer", Real);
    }
  }
}

/** Memory that the schedule before has used. */
let used = arenaBytes;

export class World {
  /** @param {{ arena: SharedArrayBuffer, registry: SharedArrayBuffer, oracle: import("./oracle.mjs").Oracle, threads: number, seed: number }} parts */
  constructor({ arena, registry, oracle, threads, seed }) {
    oracle.reset();
    storage.bytes.fill(0);
    timers.length = 0;
    this.oracle = oracle;
    this.seed = seed;
    this.arenas = new OneArena(arena, used);
    new Int32Array(registry).fill(0);
    this.registry = new Registry(registry);
    for (let thread = 0; thread < threads; thread++) this.registry.reserve();
    // What the look before a try finds may be over in the next moment, so a try must be right whatever it said: in most
    // schedules it says at once that all is well. (As it ships it would keep most tries away from guests inside.)
    this.transitions = seed % 4 === 3 ? new Transitions(this.registry) : new Transitions(this.registry, () => true);
    /** @type {Stack[]} */
    this.stacks = [];
    /** @type {number[]} */
    this.disks = [];
    /** @type {import("../../packages/engine/dist/stack.js").Layer[]} */
    this.layers = [];
    /** @type {{ recorder: Recorder, disk: number, base: number }[]} */
    this.recorders = [];
    /** @type {{ memory: ViewMemory, disk: number, base: number, image: number, target: number, stands: boolean, stopped: boolean, woken: boolean }[]} */
    this.views = [];
    /** @type {import("../../packages/engine/dist/arena.js").Region[]} */
    this.jobs = [];
    /** @type {any} */
    this.extra = undefined;
    /** Events that nobody asked for yet. @type {number[]} */
    this.events = [];
    this.deaths = 0;
    this.tries = 0;
    /** @type {Actor | undefined} */
    this.sight = undefined;
  }

  /** The main thread's own sight of everything. @returns {Actor} */
  get actor() {
    if (this.sight === undefined) throw new Error("the plan was not read");
    return this.sight;
  }

  /** A stack with its lowest disk. @param {number} disk @param {number} clusters */
  attach(disk, clusters) {
    const stack = new Stack(this.arenas);
    this.stacks.push(stack);
    this.disks.push(disk);
    return this.layer(stack, disk, clusters, 0);
  }

  /** @param {Stack} stack @param {number} disk @param {number} clusters @param {number} base bytes */
  layer(stack, disk, clusters, base) {
    const id = this.stacks.length * 10 + stack.layers.size;
    const layer = {
      id,
      stack,
      node: diskHandle(disk, clusters * clusterSize, false, base),
      base,
      table: { length: clusters * clusterSize, recorders: [], views: [] },
      counters: this.arenas.allocate(counterBytes(counted)),
    };
    stack.layers.set(id, layer);
    this.layers.push(layer);
    this.setTable(layer, [], []);
    return { layer, disk, clusters, base };
  }

  /** Puts a recognizable number into every word of a disk's clusters. @param {number} disk @param {number[]} values by cluster */
  format(disk, values) {
    const words = new Int32Array(storage.bytes.buffer, storage.bytes.byteOffset + disk * diskBytes, diskBytes / 4);
    for (const [cluster, value] of values.entries())
      words.fill(value, (cluster * clusterSize) / 4, ((cluster + 1) * clusterSize) / 4);
  }

  /** The table that a schedule begins with. @param {import("../../packages/engine/dist/stack.js").Layer} layer @param {Recorder[]} recorders @param {ViewMemory[]} views */
  setTable(layer, recorders, views) {
    layer.stack.commit(layer.stack.prepare(new Map([[layer, { length: layer.table.length, recorders, views }]])));
    this.#observe();
  }

  /** A bitmap of a disk. @param {{ disk: number, clusters: number, base: number }} of @param {number} [granularity] */
  recorder({ disk, clusters, base }, granularity = clusterSize) {
    const recorder = lab.quietly(() => Recorder.create(this.arenas, clusters * clusterSize, granularity));
    this.recorders.push({ recorder, disk, base });
    return recorder;
  }

  /**
   * A view with its spill.
   * @param {{ layer: import("../../packages/engine/dist/stack.js").Layer, disk: number, clusters: number, base: number }} of
   * @param {{ set?: Recorder | undefined, slots?: number, fileSlots?: number, zeroSlots?: number, delayMs?: number, breakGuestWrite?: boolean, synchronous?: boolean, readers?: boolean, image?: number, jobClusters?: number, spillDisk?: number, target?: number }} options
   */
  view(
    { layer, disk, clusters, base },
    {
      set,
      slots = 4,
      fileSlots = 0,
      zeroSlots = 2,
      delayMs = 0,
      breakGuestWrite = false,
      synchronous = false,
      readers = false,
      image = 0,
      jobClusters = 1,
      spillDisk = 7,
      target = 3,
    },
  ) {
    const memory = new ViewMemory(
      this.arenas,
      {
        length: clusters * clusterSize,
        gate: layer.stack.gateRegion,
        clusterSize: jobClusters * clusterSize,
        alignment: clusterSize,
        guestDelayMaxMs: delayMs,
        breakGuestWrite,
        synchronous,
        readers,
        spillMemory: slots * clusterSize * jobClusters,
        spillFile: fileSlots * clusterSize * jobClusters,
      },
      set,
    );
    // A few slots of zeroes instead of thousands: a search looks at each.
    memory.spillWords[spillLayout.zeroSlotsWord] = zeroSlots;
    memory.spillWords[spillLayout.freeZeroWord] = zeroSlots;
    if (fileSlots > 0) {
      memory.spillWords[spillLayout.fileDescriptorWord] = descriptorOf(spillDisk);
      memory.spillWords[spillLayout.fileSlotsWord] = memory.fileSlotsMax;
      memory.spillWords[spillLayout.freeFileWord] = memory.fileSlotsMax;
    }
    this.views.push({ memory, disk, base, image, target, stands: false, stopped: false, woken: false });
    return memory;
  }

  job() {
    const region = this.arenas.allocate(jobLayout.jobWords * 4);
    this.jobs.push(region);
    return region;
  }

  /** @param {any} extra whatever the scenario's threads want to know @returns {import("./actor.mjs").Plan} */
  plan(extra) {
    const place = (/** @type {{ arena: number, byteOffset: number }} */ { arena, byteOffset }) => ({
      arena,
      byteOffset,
    });
    return {
      seed: this.seed,
      gates: this.stacks.map((stack) => place(stack.gateRegion)),
      recorders: this.recorders.map(({ recorder, disk, base }) => ({
        length: recorder.descriptor.length,
        granularity: recorder.descriptor.granularity,
        regions: recorder.descriptor.regions.map(place),
        disk,
        base,
      })),
      views: this.views.map(({ memory, disk, base, image, target }) => ({
        ...place(memory.region),
        disk,
        base,
        image,
        target,
      })),
      jobs: this.jobs.map(place),
      addresses: this.layers.map((layer) => layer.stack.address(layer)),
      disks: this.disks,
      extra,
    };
  }

  /**
   * One transition, from its first try to its end; turns of the event loop happen between tries only.
   * @param {string} name
   * @param {{ layer: import("../../packages/engine/dist/stack.js").Layer, recorders: Recorder[], views: ViewMemory[] }[]} changes
   * @param {{ commit?: () => void, deadlineMs?: number }} [options]
   * @returns {boolean} false if it was given up at its deadline
   */
  transition(name, changes, { commit, deadlineMs } = {}) {
    const stacks = [...new Set(changes.map(({ layer }) => layer.stack))];
    let settled = 0;
    this.transitions
      .run({
        name,
        stacks,
        deadlineMs,
        prepare: () => ({
          tables: new Map(
            changes.map(({ layer, recorders, views }) => [layer, { length: layer.table.length, recorders, views }]),
          ),
          commit: () => {
            this.oracle.setClosed(true);
            for (const [index, view] of this.views.entries()) this.#stopLeft(index, view);
            commit?.();
            this.#observe();
          },
          committed: () => {
            settled = 1;
          },
          abandoned: () => {
            settled = 2;
          },
        }),
      })
      .catch(() => {});
    for (;;) {
      this.oracle.setClosed(false);
      if (lab.unwinding) lab.park(0);
      this.tries++;
      for (const stack of stacks) {
        if (lab.quietly(() => Atomics.load(stack.words, gateLayout.closedWord)) !== 0)
          lab.fail(`${name} leaves a gate closed across a turn of the event loop`);
      }
      if (settled !== 0) break;
      const timer = timers.shift();
      if (timer === undefined) lab.fail(`${name} neither settled nor waits for its next try`);
      lab.sleep(0, -1, 2);
      this.poll();
      timer?.();
    }
    for (const view of this.views) {
      if (!view.stopped || view.woken) continue;
      view.woken = true;
      view.memory.view.wakeAll();
    }
    return settled === 1;
  }

  /** A view that left its table is stopped, in the same transition. @param {number} index @param {World["views"][number]} view */
  #stopLeft(index, view) {
    const inTable = this.stacks.some((stack) =>
      [...stack.layers.values()].some((layer) => layer.table.views.includes(view.memory)),
    );
    if (view.stands && !inTable) {
      Atomics.store(view.memory.view.words, viewLayout.stoppedWord, 1);
      view.stopped = true;
    }
    if (!view.stands && inTable) this.oracle.take(view.image, view.disk);
    view.stands = inTable;
    this.oracle.setStanding(index, inTable);
  }

  #observe() {
    for (const [index, { recorder }] of this.recorders.entries()) {
      const inTable = this.stacks.some((stack) =>
        [...stack.layers.values()].some((layer) => layer.table.recorders.includes(recorder)),
      );
      this.oracle.setRecording(index, inTable);
    }
  }

  /** Lets threads begin that wait for it. @param {number[]} threads */
  start(...threads) {
    for (const thread of threads) {
      this.oracle.started |= 1 << thread;
      lab.wake(0, -10 - thread, 1);
    }
  }

  /** One turn of the event loop; handles deaths. @returns {number | undefined} an event */
  turn() {
    const early = this.events.shift();
    if (early !== undefined) return early;
    const event = lab.turn();
    if (event === undefined || event >= 0) return event;
    this.died(-1 - event);
    return event;
  }

  /** Handles what has arrived, without waiting. */
  poll() {
    while (lab.words[header.mailHead] !== lab.words[header.mailTail]) {
      const event = lab.turn();
      if (event === undefined) return;
      if (event < 0) this.died(-1 - event);
      this.events.push(event);
    }
  }

  /** As the engine does after a thread's exit. @param {number} participant */
  died(participant) {
    this.deaths++;
    for (const stack of this.stacks) {
      const { served } = vacate(stack.words, participant);
      if (!served) continue;
      for (const layer of stack.layers.values())
        for (const view of layer.table.views) view.view.break(viewLayout.brokenThreadDied);
    }
  }

  /** Turns until everybody has ended. @param {(event: number) => void} [handle] */
  drain(handle) {
    for (let event = this.turn(); event !== undefined; event = this.turn()) handle?.(event);
  }

  /** A region that nobody may touch any more. @param {{ byteOffset: number, byteLength: number }} region */
  giveBack(region) {
    this.oracle.giveBack(region.byteOffset, region.byteOffset + region.byteLength);
  }

  close() {
    used = this.arenas.used;
  }

  /** For traces: what a place in shared memory is. @param {number} buffer @param {number} offset */
  describe(buffer, offset) {
    if (buffer === disksBuffer)
      return `disk ${Math.floor(offset / diskBytes)} cluster ${(offset % diskBytes) / clusterSize}`;
    if (buffer !== 1) return `buffer ${buffer} +${offset}`;
    for (const [index, stack] of this.stacks.entries()) {
      const word = (offset - stack.words.byteOffset) / 4;
      if (word < 0 || word >= stack.words.length) continue;
      const gate = this.stacks.length > 1 ? `gate ${index} ` : "gate ";
      if (word < gateLayout.slotsWord) return gate + (nameOf(gateLayout, word) ?? `word ${word}`);
      return `${gate}slot of thread ${Math.floor((word - gateLayout.slotsWord) / gateLayout.slotWords)}${(word - gateLayout.slotsWord) % gateLayout.slotWords === 0 ? "" : " (served)"}`;
    }
    for (const [index, { memory }] of this.views.entries()) {
      const { view } = memory;
      const name = this.views.length > 1 ? `view ${index} ` : "view ";
      const word = (offset - view.words.byteOffset) / 4;
      if (word >= 0 && word < viewLayout.headerWords) return name + (nameOf(viewLayout, word) ?? `word ${word}`);
      for (const bits of /** @type {const} */ (["busy", "copying", "preserved", "copied", "retired"])) {
        const at = (offset - view[bits].byteOffset) / 4;
        if (at >= 0 && at < view[bits].length) return `${name}${bits}[${at}]`;
      }
      const spill = (offset - memory.spillWords.byteOffset) / 4;
      if (spill >= 0 && spill < memory.spillWords.length) {
        if (spill < spillLayout.slotsStart) return `${name}spill ${nameOf(spillLayout, spill) ?? spill}`;
        const slot = spill - spillLayout.slotsStart;
        return `${name}spill slot ${Math.floor(slot / spillLayout.slotFields)} ${["state", "cluster", "readers", "?"][slot % spillLayout.slotFields]}`;
      }
    }
    for (const [index, region] of this.jobs.entries()) {
      const word = (offset - region.byteOffset) / 4;
      if (word >= 0 && word < jobLayout.jobWords)
        return `job${this.jobs.length > 1 ? ` ${index}` : ""} ${nameOf(jobLayout, word) ?? word}`;
    }
    for (const [index, { recorder }] of this.recorders.entries()) {
      for (const region of recorder.descriptor.regions) {
        const whole = /** @type {import("../../packages/engine/dist/arena.js").Region} */ (region);
        if (offset >= whole.byteOffset && offset < whole.byteOffset + whole.byteLength)
          return `bitmap ${index} word ${(offset - whole.byteOffset) / 4}`;
      }
    }
    return `memory +${offset}`;
  }
}

/** @param {object} layout @param {number} word */
function nameOf(layout, word) {
  for (const [name, value] of Object.entries(layout))
    if (name.endsWith("Word") && value === word) return name.slice(0, -4);
  return undefined;
}
