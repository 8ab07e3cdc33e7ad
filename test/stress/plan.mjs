/**
 * The scenario generator: what an epoch consists of (disks, bitmaps, writers) and what happens in each of its rounds. Plans are
 * data, made from the seed and from which bitmaps exist; how the threads then interleave is not the seed's to say.
 *
 * A round begins and ends with all writers parked and no job left, so every check has a quiet moment. In between, a bitmap
 * has one job at most, and commands go to the others.
 */
import { makeJob } from "./plan-job.mjs";
import { sourceRules } from "./test-disk.mjs";
import { makeStripes } from "./stripes.mjs";

const mebibyte = 1024 * 1024;
const granularities = [512, 4096, 32768, 65536, 131072, mebibyte];

/**
 * @typedef {{ name: string, length: number, lengthMax: number, decorated: boolean, mirrorOf: number | undefined, stripes: import("./stripes.mjs").Stripe[], bitmaps: { name: string, granularity: number }[] }} DiskPlan
 * @typedef {{ type: "add", disk: number, name: string, granularity: number, disabled: boolean } | { type: "remove" | "clear" | "enable" | "disable", disk: number, name: string } | { type: "merge", disk: number, name: string, sources: { disk: number, name: string }[] } | { type: "abort" }} CommandPlan
 * @typedef {{ afterMs: number, grouped: boolean, actions: Array<{ command: CommandPlan } | { job: import("./plan-job.mjs").JobPlan }> }} TransactionPlan
 * @typedef {{ disk: number, bitmap: string | undefined, all: boolean, succeeds: boolean, spillMemory: number, readsMs: number }} ViewPlan
 * @typedef {{ kind: string, transactions: TransactionPlan[], view: ViewPlan | undefined, source: { disk: number, rule: number, afterMs: number } | undefined, kill: { writer: number, afterMs: number } | undefined, resize: { disk: number, length: number } | undefined, reattach: number | undefined }} RoundPlan
 */

/** @param {import("./random.mjs").Random} random @param {{ disks: number, writers: number }} size */
export function planEpoch(random, size) {
  const guests = size.writers + 1; // the main thread is one
  const same = random.chance(40) ? lengthOf(random) : undefined;
  /** @type {DiskPlan[]} */
  const disks = Array.from({ length: size.disks }, (_, index) => {
    const length = same ?? lengthOf(random);
    const lengthMax = length + mebibyte;
    const bitmaps = Array.from({ length: random.int(1, 3) }, (_unused, at) => ({
      name: `b${at}`,
      granularity: random.pick(granularities),
    }));
    const stripes = makeStripes(random.fork(`stripes ${index}`), lengthMax, guests);
    return {
      name: `disk${index}`,
      length,
      lengthMax,
      decorated: random.chance(60),
      mirrorOf: undefined,
      stripes,
      bitmaps,
    };
  });
  const mirror = random.int(0, size.disks - 1);
  const { length } = disks[mirror];
  disks.push({
    name: "mirror",
    length,
    lengthMax: length,
    decorated: true,
    mirrorOf: mirror,
    stripes: [],
    bitmaps: [{ name: "b0", granularity: random.pick(granularities) }],
  });
  return {
    disks,
    rounds: random.int(14, 26),
    pace: random.pick([20, 50, 90]),
    ioThreads: random.int(1, 2),
    endsInTheMiddle: random.chance(50),
  };
}

/** @param {import("./random.mjs").Random} random */
function lengthOf(random) {
  const odd = random.pick([0, 0, 512 * random.int(1, 200), random.int(1, 99_999)]);
  return random.int(1, random.chance(15) ? 16 : 5) * mebibyte + odd;
}

/**
 * @param {import("./random.mjs").Random} random
 * @param {import("./epoch.mjs").Facts} facts what exists
 * @returns {RoundPlan}
 */
export function planRound(random, facts) {
  const kind = random.weighted(
    /** @type {const} */ ([
      [30, "job"],
      [14, "jobs"],
      [14, "group"],
      [12, "chain"],
      [10, "recipe"],
      [12, "view"],
      [4, "commands"],
      [4, "resize"],
      [4, "reattach"],
    ]),
  );
  /** @type {RoundPlan} */
  const round = {
    kind,
    transactions: [],
    view: undefined,
    source: undefined,
    kill: undefined,
    resize: undefined,
    reattach: undefined,
  };
  const free = facts.bitmaps.filter(({ disk }) => facts.disks[disk].mirrorOf === undefined);
  const picker = new Picker(random, facts, random.shuffle(free));
  const guestsDisks = facts.disks.flatMap(({ mirrorOf }, index) => (mirrorOf === undefined ? [index] : []));
  switch (kind) {
    case "job":
      round.transactions.push(single(picker.job(random.pick(guestsDisks), {}), 0));
      break;
    case "jobs": {
      const disk = random.pick(guestsDisks);
      const count = random.int(2, 3);
      for (let at = 0; at < count; at++)
        round.transactions.push(
          single(picker.job(random.chance(70) ? disk : random.pick(guestsDisks), {}), random.int(0, 20)),
        );
      break;
    }
    case "group": {
      const members = random
        .shuffle(guestsDisks)
        .slice(0, random.int(2, 3))
        .sort((a, b) => a - b);
      const grouped = random.chance(80);
      const troubled = random.chance(60) ? random.pick(members) : -1;
      const actions = members.map((disk) => ({ job: picker.job(disk, { calm: disk !== troubled, grouped }) }));
      round.transactions.push({ afterMs: 0, grouped, actions });
      break;
    }
    case "chain": {
      const mirror = facts.disks.findIndex((disk) => disk.mirrorOf !== undefined);
      const source = facts.disks[mirror].mirrorOf ?? 0;
      round.transactions.push(single(picker.job(source, { mirror }), 0));
      round.transactions.push(single(picker.job(mirror, { calm: random.chance(60) }), random.int(0, 25)));
      break;
    }
    case "recipe":
      round.transactions.push(recipe(random, picker, random.pick(guestsDisks)));
      break;
    case "view": {
      const disk = random.pick(guestsDisks);
      const bitmap = random.chance(70) ? picker.bitmap(disk)?.name : undefined;
      const spillMemory = random.chance(80) ? facts.disks[disk].lengthMax + mebibyte : 131072;
      round.view = {
        disk,
        bitmap,
        all: bitmap !== undefined && random.chance(30),
        succeeds: random.chance(60),
        spillMemory,
        readsMs: random.int(40, 250),
      };
      if (random.chance(40)) round.transactions.push(single(picker.job(disk, {}), random.int(0, 20)));
      break;
    }
    case "resize": {
      const disk = random.pick(
        guestsDisks.filter((one) => !facts.disks.some((other) => other.mirrorOf === one)) ?? guestsDisks,
      );
      if (disk !== undefined) {
        const { lengthMax } = facts.disks[disk];
        round.resize = { disk, length: lengthMax - random.int(0, 1.5 * mebibyte > lengthMax ? 0 : 1.5 * mebibyte) };
      }
      break;
    }
    case "reattach":
      round.reattach = random.pick(guestsDisks);
      break;
    case "commands":
      break;
  }
  if (kind !== "group" || random.chance(30))
    for (let count = random.int(kind === "commands" ? 2 : 0, 3); count > 0; count--) addCommand(random, picker, round);
  round.source = planSource(random, round, facts, guestsDisks);
  if (random.chance(8)) round.kill = { writer: random.int(0, facts.writers - 1), afterMs: random.int(0, 25) };
  return round;
}

/**
 * What goes wrong with a source. A view that is to break is best broken while a copier reads: then its reads are slow.
 * @param {import("./random.mjs").Random} random @param {RoundPlan} round @param {import("./epoch.mjs").Facts} facts @param {number[]} disks
 * @returns {RoundPlan["source"]}
 */
function planSource(random, round, facts, disks) {
  const jobs = round.transactions.flatMap(({ actions }) =>
    actions.flatMap((action) => ("job" in action ? [action.job] : [])),
  );
  const tiny = jobs.find(
    (job) => job.trouble.kind === "tiny spill" && facts.disks[job.disk].decorated && disks.includes(job.disk),
  );
  const slowReads = sourceRules.findIndex(({ name }) => name === "slow reads");
  if (tiny !== undefined && random.chance(60)) return { disk: tiny.disk, rule: slowReads, afterMs: 0 };
  // A reader of a view is best overtaken by guests while it reads.
  const read = round.view?.disk;
  if (read !== undefined && facts.disks[read].decorated && random.chance(60))
    return { disk: read, rule: slowReads, afterMs: 0 };
  const disk = jobs.find((job) => disks.includes(job.disk))?.disk ?? random.pick(disks);
  if (!facts.disks[disk].decorated) return undefined;
  if (random.chance(15)) return { disk, rule: slowReads, afterMs: 0 };
  if (!random.chance(25)) return undefined;
  return { disk, rule: random.int(0, sourceRules.length - 1), afterMs: random.int(0, 15) };
}

/** Hands out bitmaps, each once a round. */
class Picker {
  /** @param {import("./random.mjs").Random} random @param {import("./epoch.mjs").Facts} facts @param {import("./epoch.mjs").Facts["bitmaps"]} bitmaps */
  constructor(random, facts, bitmaps) {
    this.random = random;
    this.facts = facts;
    this.left = [...bitmaps];
    this.jobs = 0;
    this.names = 0;
    const mirror = facts.disks.findIndex((disk) => disk.mirrorOf !== undefined);
    this.left.push(...facts.bitmaps.filter(({ disk }) => disk === mirror));
  }

  /** @param {number} disk */
  bitmap(disk) {
    const at = this.left.findIndex((one) => one.disk === disk);
    return at === -1 ? undefined : this.left.splice(at, 1)[0];
  }

  /** A free name. */
  name() {
    return `n${this.facts.round}_${this.names++}`;
  }

  /** @param {number} disk @param {import("./plan-job.mjs").JobWishes} wishes */
  job(disk, wishes) {
    const bitmap = this.random.chance(80) ? this.bitmap(disk) : undefined;
    const id = `r${this.facts.round}j${this.jobs++}`;
    return makeJob(this.random.fork(id), id, { index: disk, ...this.facts.disks[disk] }, bitmap, wishes);
  }
}

/** @param {import("./plan-job.mjs").JobPlan} job @param {number} afterMs @returns {TransactionPlan} */
function single(job, afterMs) {
  return { afterMs, grouped: false, actions: [{ job }] };
}

/** Transactions that users write: each with a backup, so that its instant is seen. @param {import("./random.mjs").Random} random @param {Picker} picker @param {number} disk @returns {TransactionPlan} */
function recipe(random, picker, disk) {
  const old = picker.bitmap(disk);
  const name = picker.name();
  const granularity = random.pick(granularities);
  /** @type {TransactionPlan["actions"]} */
  const actions = [];
  const full = () => ({ job: { ...picker.job(disk, { calm: random.chance(70), plain: true }) } });
  const which = random.int(0, 4);
  if (old === undefined || which === 0) {
    actions.push({ command: { type: "add", disk, name, granularity, disabled: false } }, full());
  } else if (which === 1) {
    actions.push({ command: { type: "clear", disk, name: old.name } }, full());
  } else if (which === 2) {
    // Renames: the new one takes what the old one says, the old one begins anew.
    actions.push({ command: { type: "add", disk, name, granularity, disabled: random.chance(50) } });
    actions.push({ command: { type: "merge", disk, name, sources: [{ disk, name: old.name }] } });
    actions.push({ command: { type: "clear", disk, name: old.name } }, full());
  } else if (which === 3) {
    actions.push({ command: { type: "disable", disk, name: old.name } }, full(), {
      command: { type: "enable", disk, name: old.name },
    });
  } else {
    actions.push({ command: { type: "clear", disk, name: old.name } }, full(), { command: { type: "abort" } });
  }
  return { afterMs: random.int(0, 10), grouped: false, actions };
}

/** A command of its own, to a bitmap that no job has. @param {import("./random.mjs").Random} random @param {Picker} picker @param {RoundPlan} round */
function addCommand(random, picker, round) {
  const { facts } = picker;
  const afterMs = random.int(0, 20);
  const push = (/** @type {CommandPlan} */ command) =>
    round.transactions.push({ afterMs, grouped: false, actions: [{ command }] });
  const disk = random.int(0, facts.disks.length - 1);
  const count = facts.bitmaps.filter((one) => one.disk === disk).length;
  const type = random.weighted(
    /** @type {const} */ ([
      [3, "add"],
      [2, "remove"],
      [3, "clear"],
      [2, "enable"],
      [2, "disable"],
      [3, "merge"],
    ]),
  );
  if (type === "add" || count === 0) {
    if (count < 4)
      push({
        type: "add",
        disk,
        name: picker.name(),
        granularity: random.pick(granularities),
        disabled: random.chance(20),
      });
    return;
  }
  const bitmap = picker.bitmap(disk);
  if (bitmap === undefined) return;
  if (type !== "merge") {
    if (type !== "remove" || count > 1) push({ type, disk, name: bitmap.name });
    return;
  }
  const others = picker.left.filter((one) => facts.disks[one.disk].length === facts.disks[disk].length);
  if (others.length === 0) return;
  const sources = random.shuffle(others).slice(0, random.int(1, 2));
  picker.left = picker.left.filter((one) => !sources.includes(one));
  push({ type: "merge", disk, name: bitmap.name, sources: sources.map((one) => ({ disk: one.disk, name: one.name })) });
}
