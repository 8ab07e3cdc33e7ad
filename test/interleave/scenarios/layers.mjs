/** Stacks of nodes behind one gate, and a backup's target that is a disk with a gate of its own. */
import { fill } from "../actor.mjs";
import { checkBitmap, checkReleased, checkView } from "../check.mjs";
import { clusterSize } from "../disks.mjs";
import { backup, guest } from "./parts.mjs";

/** A window on a lower node, both with a bitmap and a view: a write to either counts for both where they overlap. @type {import("../batch.mjs").Scenario} */
const window = {
  name: "stack",
  threads: ["main", "guest below", "guest above"],
  setup(world) {
    const below = world.attach(0, 3);
    const above = world.layer(below.layer.stack, 0, 2, clusterSize);
    world.format(0, [11, 12, 13]);
    const recorders = [world.recorder(below), world.recorder(above)];
    const views = [world.view(below, { image: 2, slots: 3 }), world.view(above, { image: 3, slots: 3 })];
    world.extra = { below, above, recorders, views };
    return null;
  },
  main(world) {
    const { below, above, recorders, views } = world.extra;
    world.transition("freeze both", [
      { layer: below.layer, recorders: [recorders[0]], views: [views[0]] },
      { layer: above.layer, recorders: [recorders[1]], views: [views[1]] },
    ]);
  },
  thread(actor) {
    const io = actor.guest(actor.thread - 1);
    return () => {
      const data = new Uint8Array(2 * clusterSize);
      for (let half = 0; half < 2; half++) data.set(fill(actor.thread * 100), half * clusterSize);
      if (io.write(data, 0) !== 0) throw new Error("a guest's write failed");
    };
  },
  check(world) {
    checkReleased(world);
    for (let index = 0; index < 2; index++) {
      checkView(world, 3, index);
      checkBitmap(world, index, (cluster) => world.oracle.written(index, cluster), 2 + index);
    }
  },
};

/** The target of one backup is a disk with a bitmap: the mover is its guest, while its own transitions go on. */
const base = backup(
  "target-is-a-disk",
  { view: { slots: 4, delayMs: 20 } },
  {
    guest: guest([0, 1]),
    copier: (actor) => {
      const run = actor.mover({ source: 0, target: actor.guest(1), clusters: 2 });
      return () => {
        actor.waitForStart();
        return run();
      };
    },
    "guest of the target": (actor) => {
      const io = actor.guest(1);
      return () => {
        io.write(fill(77), 2 * clusterSize);
      };
    },
  },
);

/** @type {import("../batch.mjs").Scenario} */
const targetIsDisk = {
  ...base,
  setup(world) {
    const made = base.setup(world);
    const target = world.attach(3, 3);
    world.extra.target = { target, recorders: [world.recorder(target), world.recorder(target)] };
    world.setTable(target.layer, [world.extra.target.recorders[0]], []);
    return made;
  },
  main(world) {
    const { target, recorders } = world.extra.target;
    base.main(world);
    world.transition("freeze of the target", [{ layer: target.layer, recorders: [recorders[1]], views: [] }]);
  },
  check(world) {
    const kind = base.check(world);
    for (let index = 2; index < 4; index++) {
      const { bitmap } = world.recorders[index].recorder;
      for (let cluster = 0; cluster < 3; cluster++) {
        if (bitmap.test(cluster * clusterSize) !== world.oracle.written(index, cluster))
          throw new Error(`the target's bitmap ${index} is wrong about cluster ${cluster}`);
      }
    }
    return kind;
  },
};

export const layerScenarios = [window, targetIsDisk];
