/** One run and all its crashes, from a seed. */
import { Random } from "../stress/random.mjs";
import * as commands from "./commands.mjs";
import { enumerate } from "./enumerate.mjs";
import { enumerateJobs } from "./enumerate-jobs.mjs";
import { resumable } from "./job-commands.mjs";
import { markedMax, World } from "./world.mjs";

/** Long names: a directory of several sectors, which can tear. */
const names = ["daily", "weekly"].map((name) => name.padEnd(400, "."));

/**
 * @param {string | number} seed @param {number} steps commands of the run
 * @param {{ jobs?: boolean, synced?: boolean, only?: "kills" | "losses" | undefined }} [choice] jobs: little else but resumable
 *   ones; synced: their spill is
 */
export async function runSeed(seed, steps, { jobs = false, synced = false, only } = {}) {
  const random = new Random(`crash ${seed}`);
  const world = new World(random.fork("world"));
  const choose = random.fork("commands");
  for (let step = 0; step < steps; step++) {
    const [one, other] = choose.shuffle(names);
    world.mingle();
    if (!world.bitmaps.has(one)) await commands.add(world, one);
    else
      await choose.weighted([
        ...(jobs ? [/** @type {const} */ ([60, () => resumable(world, one, choose.chance(70), synced)])] : []),
        [4, () => commands.backup(world, one, true)],
        [3, () => commands.backup(world, one, false)],
        [2, () => commands.clear(world, one)],
        [2, async () => (world.bitmaps.has(other) ? commands.merge(world, other, one) : undefined)],
        [2, () => commands.pause(world, one)],
        [1, () => commands.remove(world, one)],
        [4, async () => void world.marks.settle(choose.chance(50))],
        [1, async () => void world.syncImage()],
      ])();
  }
  world.quiesce();
  const states = random.fork("states");
  const counts = jobs ? enumerateJobs(world, states, markedMax, only) : await enumerate(world, states, markedMax);
  return { steps: world.recorder.log.length, ...counts };
}
