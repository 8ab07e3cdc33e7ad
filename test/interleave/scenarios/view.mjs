/** Guests, copiers and drainers around one view. */
import { fill } from "../actor.mjs";
import { clusterSize } from "../disks.mjs";
import { checkJob, runJob, setUpJob } from "./job.mjs";

/**
 * @typedef {(actor: import("../actor.mjs").Actor) => () => number | void} Part
 * @typedef {import("./job.mjs").JobOptions} JobOptions
 */

/** @param {string} name @param {JobOptions & { mortal?: number[] }} options @param {Record<string, Part>} parts @returns {import("../batch.mjs").Scenario} */
function backup(name, options, parts) {
  const named = (/** @type {string} */ name) => Object.keys(parts).flatMap((part, index) => (part.startsWith(name) ? [index + 1] : []));
  const all = { movers: named("copier"), drainers: named("drainer"), ...options };
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
function guest(clusters) {
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

/** A guest that discards, then writes zeroes. @type {Part} */
const clearing = (actor) => {
  const io = actor.guest();
  return () => {
    io.discard(0, clusterSize);
    io.writeZeroes(clusterSize, clusterSize, true);
  };
};

/** @param {Partial<Parameters<import("../actor.mjs").Actor["mover"]>[0]>} [options] */
function copier(options = {}) {
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

const kernel = copier({ kernel: true });
const drainer = copier({ copies: false });
const roomy = { slots: 4, delayMs: 20 };
const single = { slots: 1, delayMs: 20 };

export const viewScenarios = [
  backup("freeze", { view: roomy, end: "at once", mustSucceed: true }, { "guest A": guest([0, 1]), "guest B": guest([1, 0]) }),
  backup("same-cluster", { view: roomy, end: "at once", clusters: 1, content: [11], mustSucceed: true }, { "guest A": guest([0]), "guest B": guest([0]) }),
  backup("copier", { view: roomy, mustSucceed: true }, { guest: guest([0, 1]), copier: copier() }),
  backup("copier-run", { view: roomy, mustSucceed: true, dirty: [0, 1] }, { "guest A": guest([[0, 2]]), "guest B": guest([1]), copier: copier({ runClusters: 2 }) }),
  backup("copier-small", { view: roomy, mustSucceed: true, clusters: 1, content: [11] }, { guest: guest([0]), copier: copier({ clusters: 1 }) }),
  backup("copier-cancel", { view: roomy, end: "at once" }, { guest: guest([0, 1]), copier: copier({ runClusters: 2 }) }),
  backup("copier-zeroes", { view: roomy, mustSucceed: true, content: [0, 12] }, { guest: clearing, "guest B": guest([0]), copier: copier({ detectZeroes: true }) }),
  backup("two-copiers", { view: roomy, mustSucceed: true }, { guest: guest([0]), "copier A": copier({ runClusters: 2 }), "copier B": kernel }),
  backup("kernel", { view: roomy, mustSucceed: true }, { guest: guest([0, 1]), copier: kernel }),
  backup("kernel-small", { view: roomy, mustSucceed: true, clusters: 1, content: [11] }, { guest: guest([0]), copier: copier({ kernel: true, clusters: 1 }) }),
  backup("two-kernel-copiers", { view: roomy, mustSucceed: true, clusters: 1, content: [11] }, { guest: guest([0]), "copier A": copier({ kernel: true, clusters: 1 }), "copier B": copier({ kernel: true, clusters: 1 }) }),
  backup("kernel-zeroes", { view: roomy, mustSucceed: true, content: [0, 12] }, { guest: clearing, "guest B": guest([0]), copier: copier({ kernel: true }) }),
  backup("spill", { view: single }, { guest: guest([[0, 2]]), "guest B": guest([1]), copier: copier() }),
  backup("spill-break", { view: { slots: 1, delayMs: 0 } }, { guest: guest([[0, 2]]), "guest B": guest([1]), copier: copier() }),
  backup("spill-kernel", { view: { slots: 1, delayMs: 0 } }, { guest: guest([[0, 2]]), copier: kernel, "drainer B": drainer }),
  backup("spill-refuses-guest", { view: { slots: 1, delayMs: 0, breakGuestWrite: true }, mustSucceed: true, mayRefuse: true }, { guest: guest([[0, 2]]), copier: copier() }),
  backup("spill-file", { view: { slots: 1, fileSlots: 2, delayMs: 20 }, mustSucceed: true, clusters: 3 }, { guest: guest([[0, 3]]), "guest B": guest([2]), copier: copier({ clusters: 3 }) }),
  backup("spill-zeroes", { view: single, content: [0, 12], end: "at once" }, { guest: guest([0]), "guest B": guest([1]), drainer }),
  backup("set", { view: roomy, dirty: [1], mustSucceed: true, clusters: 3 }, { guest: guest([[0, 3]]), copier: copier({ clusters: 3 }) }),
  backup("death-of-a-guest", { view: single, mortal: [1] }, { "guest A": guest([[0, 2]]), "guest B": guest([0, 1]), copier: copier({ runClusters: 2 }) }),
  backup("death-of-a-copier", { view: roomy, mortal: [2, 3] }, { guest: guest([0, 1]), "copier A": copier(), "copier B": kernel }),
];
