/**
 * The threads that write: started, given disks, parked, killed and replaced. What their logs say is collected here, for
 * replay, while they are parked.
 */
import { MessageChannel, Worker } from "node:worker_threads";
import * as board from "./board.mjs";

const { field } = board;

export class Crew {
  /**
   * @param {board.Board} shared @param {import("../../packages/runtime/dist/index.js").Runtime} runtime
   * @param {(text: string, details: object) => void} fail
   */
  constructor(shared, runtime, fail) {
    this.shared = shared;
    this.runtime = runtime;
    this.fail = fail;
    this.control = new Int32Array(shared.control);
    /** @type {Map<number, { worker: Worker, port: import("node:worker_threads").MessagePort, alive: boolean, runs: Promise<void>, exited: Promise<void> }>} */
    this.members = new Map();
    /** Entries of each log that were collected. @type {Map<number, number>} */
    this.collected = new Map();
    this.deaths = 0;
    this.bytes = 0;
    this.requests = 0;
    this.delayMaxMs = 0;
    this.metronome = new Worker(new URL("./metronome.mjs", import.meta.url), {
      workerData: { control: shared.control },
    });
  }

  /** @param {number} writer @param {string} file @param {object} data @param {readonly import("./test-disk.mjs").TestDisk[]} disks */
  start(writer, file, data, disks) {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(new URL(file, import.meta.url), {
      workerData: { shared: this.shared, writer, port: port2, ...data },
      transferList: [port2],
    });
    this.runtime.register(worker);
    let says = () => {};
    port1.on("message", ({ runs, violation, details }) => (runs === true ? says() : this.fail(violation, details)));
    port1.unref();
    worker.on("error", (error) => this.fail("a writer's thread threw", { writer, error: String(error.stack) }));
    const member = {
      worker,
      port: port1,
      alive: true,
      runs: /** @type {Promise<void>} */ (new Promise((resolve) => (says = resolve))),
      exited: /** @type {Promise<void>} */ (new Promise((resolve) => worker.once("exit", () => resolve()))).then(() => {
        member.alive = false;
        says();
        port1.close();
        if (Atomics.load(this.control, board.stoppedWord) === 0) this.deaths++;
      }),
    };
    Atomics.store(this.control, board.parkedFlag(writer), 0);
    this.members.set(writer, member);
    this.give(writer, disks);
  }

  /** @param {number} writer @param {readonly import("./test-disk.mjs").TestDisk[]} disks */
  give(writer, disks) {
    const member = this.members.get(writer);
    for (const disk of disks) member?.port.postMessage({ open: disk.disk.handle(), disk: disk.index });
    this.#call();
  }

  /** @param {number} disk */
  takeAway(disk) {
    for (const member of this.members.values()) if (member.alive) member.port.postMessage({ disk });
    this.#call();
  }

  /** Writers that have died. */
  get dead() {
    return [...this.members].filter(([, member]) => !member.alive).map(([writer]) => writer);
  }

  /**
   * Once it runs: a thread that is terminated while it loads a native module takes the process with it, whoever's thread it is.
   * @param {number} writer
   */
  async kill(writer) {
    const member = this.members.get(writer);
    await member?.runs;
    await member?.worker.terminate();
  }

  resume() {
    Atomics.store(this.control, board.pausedWord, 0);
    this.#call();
  }

  /** Until every writer that lives has parked. @param {number} timeoutMs @returns {Promise<boolean>} false if one did not */
  async park(timeoutMs) {
    Atomics.store(this.control, board.pausedWord, 1);
    this.#call();
    const until = board.clock() + timeoutMs;
    for (;;) {
      const seen = Atomics.load(this.control, board.parkedWord);
      if (
        [...this.members].every(
          ([writer, { alive }]) => !alive || Atomics.load(this.control, board.parkedFlag(writer)) === 1,
        )
      )
        return true;
      if (board.clock() > until) return false;
      await Atomics.waitAsync(this.control, board.parkedWord, seen, 20).value;
    }
  }

  /** Who is in the middle of a request, for a message. */
  stuck() {
    return [...this.members].flatMap(([writer, { alive }]) => {
      const log = new Int32Array(this.shared.writers[writer].log);
      const last = 1 + (((log[0] || 1) - 1) % board.logEntries) * board.entryWords;
      if (!alive || Atomics.load(this.control, board.parkedFlag(writer)) === 1) return [];
      return [{ writer, ...what(log, last), running: log[last + field.end] === 0 }];
    });
  }

  /**
   * What was logged since the last time, by disk. All that live are parked.
   * @returns {{ requests: import("./replay.mjs").Marked[][], cutOff: { disk: number, offset: number, length: number }[] }}
   */
  collect() {
    /** @type {import("./replay.mjs").Marked[][]} */
    const requests = this.shared.disks.map(() => []);
    const cutOff = [];
    const now = board.tick(this.control);
    for (const [writer, { log: buffer }] of this.shared.writers.entries()) {
      const log = new Int32Array(buffer);
      const count = log[0];
      const from = this.collected.get(writer) ?? 0;
      this.collected.set(writer, count);
      if (count - from > board.logEntries)
        this.fail("stress: a writer's log ran over; make rounds shorter", { writer, count: count - from });
      for (let number = from; number < count; number++) {
        const entry = 1 + (number % board.logEntries) * board.entryWords;
        const { disk, offset, length } = what(log, entry);
        const errno = log[entry + field.errno];
        let end = log[entry + field.end];
        const cut = end === 0;
        if (cut) {
          cutOff.push({ disk, offset, length });
          Atomics.store(log, entry + field.end, (end = now));
        }
        // A write that failed below has marked all the same; one that was refused before has not.
        requests[disk].push({
          begin: log[entry + field.begin],
          end,
          offset,
          length,
          sure: !cut && (errno === 0 || errno === 5),
        });
        this.requests++;
        if (!cut && errno === 0) this.bytes += length;
        this.delayMaxMs = Math.max(this.delayMaxMs, log[entry + field.microseconds] / 1000);
        log[entry + field.errno] = 0;
      }
    }
    return { requests, cutOff };
  }

  async stop() {
    Atomics.store(this.control, board.stoppedWord, 1);
    Atomics.notify(this.control, board.stoppedWord);
    this.resume();
    // One that still starts cannot look yet, for seconds where the machine is busy; and it must not be terminated (see `kill`).
    await Promise.all([...this.members.values()].map((member) => member.runs));
    const all = Promise.all([...this.members.values()].map((member) => member.exited));
    const late = new Promise((resolve) => setTimeout(resolve, 3000, "late").unref());
    if ((await Promise.race([all, late])) === "late") this.fail("a writer does not stop", { stuck: this.stuck() });
    await Promise.all([...this.members.values()].map((member) => member.worker.terminate()));
    await this.metronome.terminate();
  }

  #call() {
    Atomics.add(this.control, board.controlWord, 1);
    Atomics.notify(this.control, board.controlWord);
  }
}

/** @param {Int32Array} log @param {number} entry */
function what(log, entry) {
  const word = log[entry + field.what];
  return {
    disk: word >>> 8,
    operation: board.operations[word & 255],
    offset: log[entry + field.offset],
    length: log[entry + field.length],
  };
}
