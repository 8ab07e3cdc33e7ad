/**
 * The threads of scenarios with a view, and a backup put together from them.
 */
import { fill } from "../actor.mjs";
import { show } from "../check.mjs";
import { clusterSize } from "../disks.mjs";
import { lab } from "../lab.mjs";
import { checkJob, runJob, setUpJob } from "./job.mjs";

/**
 * @typedef {(actor: import("../actor.mjs").Actor) => () => number | void} Part
 * @typedef {import("./job.mjs").JobOptions} JobOptions
 */

/** @param {string} name @param {JobOptions & { mortal?: number[] }} options @param {Record<string, Part>} parts @returns {import("../batch.mjs").Scenario} */
export function backup(name, options, parts) {
  const named = (/** @type {string} */ prefix) =>
    Object.keys(parts).flatMap((part, index) => (part.startsWith(prefix) ? [index + 1] : []));
  const readers = named("reader");
  const all = {
    movers: [...named("copier"), ...readers],
    drainers: named("drainer"),
    copiers: named("copier").length,
    ...options,
    view: { readers: readers.length > 0, ...options.view },
  };
  return {
    name,
    threads: ["main", ...Object.keys(parts)],
    ...(options.mortal === undefined ? {} : { mortal: options.mortal }),
    setup(world) {
      setUpJob(world, all);
      return null;
    },
    main: (world) => runJob(world, all),
    thread: (actor) => Object.values(parts)[actor.thread - 1](actor),
    check: (world) => checkJob(world, all),
  };
}

/** A guest that writes these clusters, a range of them where a pair is given. @param {(number | [number, number])[]} clusters */
export function guest(clusters) {
  return /** @type {Part} */ (
    (actor) => {
      const io = actor.guest();
      return () => {
        let failed = 0;
        for (const [round, one] of clusters.entries()) {
          const [first, count] = typeof one === "number" ? [one, 1] : one;
          const value = actor.thread * 1000 + round;
          const data = new Uint8Array(count * clusterSize);
          for (let at = 0; at < count; at++) data.set(fill(value), at * clusterSize);
          if (io.write(data, first * clusterSize) !== 0) failed++;
        }
        actor.oracle.note(0, actor.oracle.noted(0) + failed);
      };
    }
  );
}

/** A guest whose writes wait for the target: what they overwrite is there when they are answered. @param {number[][]} writes first cluster and count */
export function waitingGuest(writes) {
  return /** @type {Part} */ (
    (actor) => {
      const io = actor.guest();
      const view = actor.views[0];
      return () => {
        actor.waitForStart();
        for (const [round, [first, count]] of writes.entries()) {
          const data = new Uint8Array(count * clusterSize);
          for (let at = 0; at < count; at++) data.set(fill(actor.thread * 1000 + round), at * clusterSize);
          if (io.write(data, first * clusterSize) !== 0) continue;
          for (let cluster = first; cluster < first + count; cluster++) {
            const early = lab.quietly(() => !view.over() && !view.isCopied(cluster));
            if (early) lab.fail(`a guest has overwritten cluster ${cluster}, and the target does not have it`);
          }
        }
      };
    }
  );
}

/** A guest that discards, then writes zeroes. @type {Part} */
export const clearing = (actor) => {
  const io = actor.guest();
  return () => {
    io.discard(0, clusterSize);
    io.writeZeroes(clusterSize, clusterSize, true);
  };
};

/** @param {Partial<Parameters<import("../actor.mjs").Actor["mover"]>[0]>} [options] */
export function copier(options = {}) {
  return /** @type {Part} */ (
    (actor) => {
      const run = actor.mover({ source: 0, target: 3, clusters: 2, ...options });
      return () => {
        actor.waitForStart();
        return run();
      };
    }
  );
}

/** Reads these clusters of the view; what it is answered is what the disk held at the instant. @param {number[]} clusters @param {number} [target] disk where drained clusters are found */
export function reader(clusters, target) {
  return /** @type {Part} */ (
    (actor) => {
      actor.gate();
      const { view, image } = actor.oracle.views[0];
      return () => {
        actor.waitForStart();
        const buffer = new Uint8Array(clusterSize);
        for (const cluster of clusters) {
          const errno = actor.readView(0, buffer, cluster, {
            source: 0,
            clusters: view.clusters,
            ...(target === undefined ? {} : { target }),
          });
          if (errno !== 0) {
            if (!lab.quietly(() => view.over())) lab.fail(`a reader of a view that stands is answered errno ${errno}`);
            return;
          }
          const expected = actor.oracle.imageOf(image, cluster);
          if (Buffer.compare(buffer, expected) !== 0)
            lab.fail(
              `I2: a reader is given ${show(buffer)} for cluster ${cluster}; at the instant it was ${show(expected)}`,
            );
        }
      };
    }
  );
}
