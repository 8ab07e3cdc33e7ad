/**
 * An epoch: a runtime, its disks and its writers, from one part of the seed; rounds until its plan is over; then everything is
 * closed and nothing may be left. Each epoch stands alone, so one can be run again without those before it.
 */
import { mkdirSync, rmSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import * as board from "./board.mjs";
import { Crew } from "./crew.mjs";
import { Guest } from "./guest.mjs";
import { runtimeApi } from "./heirloom.mjs";
import { sleep, within } from "./job-run.mjs";
import { MainGuest } from "./main-guest.mjs";
import { planEpoch, planRound } from "./plan.mjs";
import { BitmapModel } from "./replay.mjs";
import { Round } from "./round.mjs";
import { ledgerOwner } from "./stripes.mjs";
import { TestDisk } from "./test-disk.mjs";

/** @typedef {{ disks: (import("./plan.mjs").DiskPlan)[], bitmaps: { disk: number, name: string, granularity: number }[], round: number, writers: number }} Facts */

export class Epoch {
  /**
   * @param {import("./random.mjs").Random} random @param {{ disks: number, writers: number }} size
   * @param {string} directory @param {import("./tally.mjs").Tally} tally
   */
  constructor(random, size, directory, tally) {
    this.random = random;
    this.size = size;
    this.directory = directory;
    this.tally = tally;
    this.plan = planEpoch(random.fork("plan"), size);
    /** @type {TestDisk[]} */
    this.disks = [];
    /** @type {Map<string, BitmapModel>} */
    this.bitmaps = new Map();
    /** What was seen with the gates closed, by job. @type {Map<string, { at: number, disks: Map<number, import("./replay.mjs").Instant> }>} */
    this.instants = new Map();
    /** Bytes of shared memory when idle, by what exists. @type {Map<string, number>} */
    this.idleMemory = new Map();
    /** A thread was left to hang for ever, with what its job had. */
    this.leaked = false;
    this.round = 0;
    /** @type {Round | undefined} */
    this.current = undefined;
    const guests = size.writers + 2;
    this.shared = board.makeBoard(
      guests,
      this.plan.disks.map((disk) => disk.lengthMax),
    );
    this.control = new Int32Array(this.shared.control);
    Atomics.store(this.control, board.slackWord, isTmpfs(directory) ? slackMs : slackOnDeviceMs);
    this.runtime = runtimeApi.createRuntime({
      engine: { ioThreadsMax: this.plan.ioThreads, idleTimeoutMs: 500 },
      freezeDeadlineMs: 1000,
      observeFreeze: ({ jobs }) => this.#observe(jobs),
    });
    this.crew = new Crew(this.shared, this.runtime, (text, details) => this.fail(text, details));
  }

  /** @param {string} text @param {object} details */
  fail(text, details) {
    this.tally.fail(text, { ...details, ...this.#context() });
  }

  async run() {
    mkdirSync(this.directory, { recursive: true });
    await this.#begin();
    for (; this.round < this.plan.rounds && !this.tally.over; this.round++) {
      const plan = planRound(this.random.fork(`round ${this.round}`), this.facts);
      this.current = new Round(plan, this);
      await this.current.run();
      this.tally.rounds++;
      if (this.tally.failures.length > 0) return;
      this.#replaceTheDead();
    }
    this.current = undefined;
    await this.#end();
    if (this.tally.failures.length === 0) rmSync(this.directory, { recursive: true, force: true });
  }

  /** @returns {Facts} */
  get facts() {
    return {
      disks: this.disks.map((disk) => ({ ...disk.plan, length: disk.length })),
      bitmaps: [...this.bitmaps.values()].map((bitmap) => ({ ...bitmap.ref, granularity: bitmap.granularity })),
      round: this.round,
      writers: this.size.writers,
    };
  }

  /** Disks that guests write. */
  get guestDisks() {
    return this.disks.filter((disk) => !disk.mirror);
  }

  /** Attaches a disk and gives it its bitmaps; the writers are parked. @param {TestDisk} disk */
  async attach(disk) {
    disk.attached = await this.#attachWhenFree(disk);
    Atomics.store(this.control, board.lengthFlag(disk.index), disk.length);
    for (const { name, granularity } of disk.plan.bitmaps) {
      await disk.disk.bitmaps.add(name, { granularity });
      const model = new BitmapModel({ disk: disk.index, name }, disk.length, granularity, true);
      model.checkpoint = disk.image();
      this.bitmaps.set(model.label, model);
    }
  }

  /**
   * A detach answers after a bounded time; until the helpers that it needs have closed the image, its name stays taken.
   * @param {TestDisk} disk
   */
  async #attachWhenFree(disk) {
    const spec = /** @type {import("../../packages/block/dist/index.js").NodeSpec} */ (disk.spec);
    for (let tries = 0; ; tries++) {
      try {
        return await this.runtime.attach(spec, { name: disk.name });
      } catch (error) {
        if (tries === 1000 || /** @type {{ code?: string }} */ (error).code !== "ERR_NODE_EXISTS") throw error;
        await sleep(20);
      }
    }
  }

  async #begin() {
    const { writers } = this.size;
    for (const [index, plan] of this.plan.disks.entries()) {
      const disk = new TestDisk(this.directory, index, plan);
      this.disks.push(disk);
      this.#prefill(disk);
      await this.attach(disk);
    }
    Atomics.store(this.control, board.pausedWord, 1);
    for (let writer = 0; writer < writers; writer++) this.#startWriter(writer);
    const stripes = this.plan.disks.map((disk) => disk.stripes);
    const fail = (/** @type {string} */ text, /** @type {object} */ details) =>
      this.fail(text, { ...details, writer: "main" });
    const guest = new Guest(this.shared, writers, stripes, this.random.fork("main guest"), fail, false);
    this.mainGuest = new MainGuest(guest, this.guestDisks);
    this.ledgerPlaces = this.guestDisks.map(
      (disk) => disk.plan.stripes.find((stripe) => stripe.owner === ledgerOwner)?.offset ?? 0,
    );
    this.#startLedger();
  }

  /** Some disks begin with data in their private stripes. @param {TestDisk} disk */
  #prefill(disk) {
    const random = this.random.fork(`prefill ${disk.index}`);
    const expected = new Uint8Array(this.shared.disks[disk.index].expected);
    if (disk.mirror || random.chance(30)) return;
    const data = disk.image();
    for (const { offset, length, owner } of disk.plan.stripes) {
      const end = Math.min(offset + length, data.length);
      if (owner >= 0 && end > offset && random.chance(60)) data.fill(random.int(1, 255), offset, end);
    }
    disk.fill(data);
    for (const { offset, length, owner } of disk.plan.stripes)
      if (owner >= 0) expected.set(data.subarray(offset, offset + length), offset);
  }

  /** @param {number} writer */
  #startWriter(writer) {
    const stripes = this.plan.disks.map((disk) => disk.stripes);
    const seed = this.random.fork(`writer ${writer} ${this.round}`).name;
    this.crew.start(writer, "./writer.mjs", { stripes, seed, pace: this.plan.pace }, this.guestDisks);
  }

  #startLedger() {
    const places = this.ledgerPlaces ?? [];
    const counters = this.guestDisks.map((disk, at) => disk.image().readUInt32LE(places[at]));
    const behind = counters.findIndex((counter) => counter < counters[0]);
    const data = { places, counter: counters[0], next: Math.max(0, behind) };
    this.crew.start(this.size.writers + 1, "./ledger.mjs", data, this.guestDisks);
  }

  #replaceTheDead() {
    for (const writer of this.crew.dead) {
      if (writer <= this.size.writers) this.#startWriter(writer);
      else this.#startLedger();
    }
  }

  /** The instant of a freeze, gates closed. @param {ReadonlyArray<{ job: string, disk: string }>} jobs */
  #observe(jobs) {
    const from = board.clock();
    const at = board.tick(this.control);
    /** @type {Map<number, import("./replay.mjs").Instant>} */
    const disks = new Map();
    for (const { disk: name } of jobs) {
      const disk = this.disks.find((one) => one.name === name);
      if (disk === undefined || disks.has(disk.index)) continue;
      const bits = new Map(
        disk.disk.bitmaps
          .list()
          .map(({ name: bitmap, state }) => [bitmap, { state, bits: disk.disk.bitmaps.serialize(bitmap) }]),
      );
      disks.set(disk.index, { image: disk.image(), bits });
    }
    for (const { job } of jobs) this.instants.set(job, { at, disks });
    Atomics.add(this.control, board.observedWord, Math.round((board.clock() - from) * 1000));
  }

  /** Ends, half of the time with jobs still running; then nothing may be left. */
  async #end() {
    await this.crew.stop();
    const random = this.random.fork("end");
    /** @type {import("../../packages/runtime/dist/index.js").Job[]} */
    const jobs = [];
    if (this.plan.endsInTheMiddle) {
      for (const disk of this.guestDisks) {
        const target = {
          driver: "file",
          filename: join(this.directory, `end-${disk.name}.raw`),
          create: { length: disk.length },
        };
        jobs.push(await this.runtime.backup({ disk: disk.disk, target, speed: 1, maxWorkers: 1, sync: "full" }));
      }
    }
    for (const disk of random.shuffle(this.disks)) if (random.chance(50)) await this.#detach(disk);
    if (!(await within(this.runtime.close(), 20_000))) this.fail("the runtime does not close", {});
    for (const job of jobs) {
      const result = await job.done;
      if (result.status === "failed") this.fail("a job that close() ended says that it failed", { result });
    }
    // What a thread still held when the closing had waited long enough comes back when that thread has ended.
    const left = () => this.runtime.inspect().memory.shared;
    for (let tries = 0; tries < 1000 && left() !== 0 && !this.leaked; tries++) await sleep(10);
    const shared = left();
    if (shared !== 0 && !this.leaked)
      this.fail("I8: shared memory is left when everything is closed", { bytes: shared });
    for (const disk of this.disks) disk.close();
    this.tally.add(this.crew);
  }

  /** @param {TestDisk} disk */
  async #detach(disk) {
    await disk.disk.detach({ force: true });
    disk.attached = undefined;
  }

  #context() {
    const bitmaps = this.disks.flatMap((disk) =>
      (disk.attached?.bitmaps.list() ?? []).map(({ name }) => ({
        disk: disk.name,
        name,
        history: disk.attached?.bitmaps.history(name).slice(-12),
      })),
    );
    return {
      epoch: this.random.name,
      round: this.round,
      plan: this.current?.plan,
      directory: this.directory,
      bitmaps,
      jobs: this.runtime.inspect().jobs,
    };
  }
}

/** What two busy cores may add to a guest's delay, and what an image's own device may: its journal's commits hold writers up. */
const slackMs = 200;
const slackOnDeviceMs = 2000;
const tmpfsMagic = 0x01021994;

/** @param {string} directory of an epoch */
function isTmpfs(directory) {
  return statfsSync(dirname(directory)).type === tmpfsMagic;
}
