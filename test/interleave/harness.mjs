/** The workers of a batch, from the side of a test or of the command line. */
import { Worker } from "node:worker_threads";
import { controlBytes } from "./control-words.mjs";
import { diskBytes, disksMax, imagesMax, oracleBytes, registryBytes } from "./sizes.mjs";

/** @typedef {{ edits: [string, string, string][] }} Fault */

export class Harness {
  /** @type {Worker[]} */ workers = [];
  /** @type {Promise<unknown>[]} */ ready = [];
  /** @param {number} threads @param {Fault} [fault] planted into the code under test */
  constructor(threads, fault) {
    const shared = [16 * 1024 * 1024, diskBytes * disksMax, oracleBytes, diskBytes * imagesMax, registryBytes].map(
      (bytes) => new SharedArrayBuffer(bytes),
    );
    const data = {
      shared,
      control: new SharedArrayBuffer(controlBytes),
      text: new SharedArrayBuffer(16_384),
      planText: new SharedArrayBuffer(65_536),
      fault,
    };
    for (let self = 0; self < threads; self++) {
      const worker = new Worker(new URL("./worker.mjs", import.meta.url), { workerData: { ...data, self } });
      this.workers.push(worker);
      this.ready.push(this.#answer(worker));
    }
  }

  /** @param {import("./batch.mjs").Job} job @returns {Promise<any>} */
  async run(job) {
    await Promise.all(this.ready);
    const [result] = await Promise.all(
      this.workers.map((worker) => {
        const answer = this.#answer(worker);
        worker.postMessage(job);
        return answer;
      }),
    );
    return result;
  }

  async close() {
    await Promise.all(this.workers.map((worker) => worker.terminate()));
  }

  /** @param {Worker} worker */
  #answer(worker) {
    return new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  }
}
