/** What all threads of the stress that write do between two requests: read their mail, park, stop. */
import { receiveMessageOnPort } from "node:worker_threads";
import * as board from "./board.mjs";
import { blockApi, runtimeApi } from "./heirloom.mjs";
import { timedDriver } from "./test-disk.mjs";

// What every image lies on (test-disk.mjs): disks are opened synchronously here.
await blockApi.loadDrivers(
  /** @type {import("../../packages/block/dist/index.js").NodeHandle} */ ({
    driver: timedDriver,
    children: /** @type {unknown[]} */ ([]),
  }),
);

export class Member {
  /** @param {board.Board} shared @param {number} writer @param {import("node:worker_threads").MessagePort} port */
  constructor(shared, writer, port) {
    this.control = new Int32Array(shared.control);
    this.writer = writer;
    this.port = port;
    /** @type {Map<number, import("../../packages/runtime/dist/index.js").GuestDisk>} */
    this.disks = new Map();
    this.looked = -1;
  }

  /** @returns {"stopped" | "again" | "go"} */
  attend() {
    if (Atomics.load(this.control, board.stoppedWord) !== 0) return "stopped";
    const moved = Atomics.load(this.control, board.controlWord);
    if (moved !== this.looked) {
      this.looked = moved;
      this.#readMail();
    }
    if (Atomics.load(this.control, board.pausedWord) !== 0) {
      this.#park();
      return "again";
    }
    if (this.disks.size > 0) return "go";
    this.rest(20);
    return "again";
  }

  /** Nobody has anything to say. */
  get undisturbed() {
    return Atomics.load(this.control, board.controlWord) === this.looked;
  }

  /** Sleeps, unless there is something to look at. @param {number} milliseconds */
  rest(milliseconds) {
    Atomics.wait(this.control, board.controlWord, this.looked, milliseconds);
  }

  close() {
    for (const disk of this.disks.values()) disk.close();
    this.port.close();
  }

  #readMail() {
    let opened = false;
    for (let mail = receiveMessageOnPort(this.port); mail !== undefined; mail = receiveMessageOnPort(this.port)) {
      const { open, disk } = mail.message;
      if (open !== undefined) {
        this.disks.set(disk, runtimeApi.openDisk(open));
        opened = true;
      } else {
        this.disks.get(disk)?.close();
        this.disks.delete(disk);
      }
    }
    // From here on it may be killed: a handle that nobody opens any more would count as in use.
    if (opened) this.port.postMessage({ runs: true });
  }

  #park() {
    Atomics.store(this.control, board.parkedFlag(this.writer), 1);
    Atomics.add(this.control, board.parkedWord, 1);
    Atomics.notify(this.control, board.parkedWord);
    this.rest(50);
    Atomics.store(this.control, board.parkedFlag(this.writer), 0);
  }
}
