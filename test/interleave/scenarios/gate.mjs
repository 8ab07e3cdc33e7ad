/** The gate and the table: who enters while transitions close, commit, open and try again. */
import { clusterSize } from "../disks.mjs";
import { fill } from "../actor.mjs";
import { checkBitmap, checkReleased } from "../check.mjs";
import { lab } from "../lab.mjs";

/** The bare gate: nobody writes between a commit and the opening, nobody sleeps for ever. @type {import("../batch.mjs").Scenario} */
const bareGate = {
  name: "gate",
  threads: ["main", "guest A", "guest B"],
  setup(world) {
    const { layer } = world.attach(0, 4);
    world.extra = layer;
    return null;
  },
  main(world) {
    world.transition("first", [{ layer: world.extra, recorders: [], views: [] }]);
    world.transition("second", [{ layer: world.extra, recorders: [], views: [] }]);
  },
  thread(actor) {
    const gate = actor.gate();
    const disk = actor.disk(0, 4);
    return () => {
      for (let round = 0; round < 2; round++) {
        gate.enter(1);
        disk.write(fill(actor.thread * 10 + round), actor.thread * clusterSize);
        gate.leave();
      }
    };
  },
  check: checkReleased,
};

/** A guest that has entered uses the table that is in force: what it writes is marked in the bitmap that records. @type {import("../batch.mjs").Scenario} */
const table = {
  name: "table",
  threads: ["main", "guest A", "guest B"],
  setup(world) {
    const at = world.attach(0, 2);
    const recorders = [world.recorder(at), world.recorder(at), world.recorder(at)];
    world.setTable(at.layer, [recorders[0]], []);
    world.extra = { layer: at.layer, recorders };
    return null;
  },
  main(world) {
    const { layer, recorders } = world.extra;
    world.transition("swap", [{ layer, recorders: [recorders[1]], views: [] }]);
    world.transition("two at once", [{ layer, recorders: [recorders[1], recorders[2]], views: [] }]);
  },
  thread(actor) {
    const disk = actor.guest();
    return () => {
      for (let round = 0; round < 2; round++)
        disk.write(fill(actor.thread * 10 + round), (actor.thread - 1) * clusterSize);
    };
  },
  check(world) {
    checkReleased(world);
    for (let index = 0; index < 3; index++) {
      const { bitmap } = world.recorders[index].recorder;
      for (let cluster = 0; cluster < 2; cluster++) {
        if (bitmap.test(cluster * clusterSize) !== world.oracle.written(index, cluster))
          lab.fail(`bitmap ${index} and what was written differ at cluster ${cluster}`);
      }
    }
  },
};

/** A thread that dies anywhere, inside the gate too: its slot is vacated, the transition comes to its end. @type {import("../batch.mjs").Scenario} */
const gateDeath = { ...table, name: "gate-death", mortal: [1], check: () => {} };

/** A freeze that is given up at its deadline changes nothing. @type {import("../batch.mjs").Scenario} */
const refused = {
  ...table,
  name: "refused",
  main(world) {
    const { layer, recorders } = world.extra;
    world.extra.done = world.transition("freeze", [{ layer, recorders: [recorders[1]], views: [] }], { deadlineMs: 0 });
    if (layer.table.recorders[0] !== recorders[world.extra.done ? 1 : 0])
      lab.fail("the table is not what the answer says");
    world.transition("the next one", [{ layer, recorders: [recorders[2]], views: [] }]);
  },
  check(world) {
    table.check(world);
    return world.extra.done ? "frozen" : "refused";
  },
};

/** Two disks in one transition: one cut of the order of writes (I6). @type {import("../batch.mjs").Scenario} */
const group = {
  name: "group",
  threads: ["main", "guest A", "guest B"],
  setup(world) {
    const disks = [world.attach(0, 2), world.attach(1, 2)];
    const views = disks.map((disk, index) => world.view(disk, { image: 2 + index, slots: 2 }));
    const recorders = disks.map((disk) => world.recorder(disk));
    world.extra = { disks, views, recorders };
    return null;
  },
  main(world) {
    const { disks, views, recorders } = world.extra;
    world.transition(
      "freeze of a group",
      disks.map((/** @type {any} */ { layer }, /** @type {number} */ index) => ({
        layer,
        recorders: [recorders[index]],
        views: [views[index]],
      })),
    );
  },
  thread(actor) {
    const disks = [0, 1].map((disk) => actor.guest(disk));
    return () => {
      const offset = (actor.thread - 1) * clusterSize;
      for (let round = 1; round <= 2; round++) for (const disk of disks) disk.write(fill(round), offset);
    };
  },
  check(world) {
    checkReleased(world);
    const word = (/** @type {number} */ image, /** @type {number} */ cluster) => {
      const bytes = world.oracle.imageOf(image, cluster);
      return new Int32Array(bytes.slice(0, 4).buffer)[0];
    };
    for (let cluster = 0; cluster < 2; cluster++) {
      const [first, second] = [word(2, cluster), word(3, cluster)];
      if (first !== second && first !== second + 1)
        lab.fail(`I6: the first disk stands at write ${first}, the second at ${second}`);
    }
    for (let index = 0; index < 2; index++)
      checkBitmap(world, index, (cluster) => world.oracle.written(index, cluster), 2 + index);
  },
};

export const gateScenarios = [bareGate, table, gateDeath, refused, group];
