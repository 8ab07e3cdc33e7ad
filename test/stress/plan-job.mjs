/** One backup of a plan: what it copies, where to, with which limits, and what goes wrong. */

/**
 * @typedef {{ calm?: boolean, grouped?: boolean, mirror?: number, plain?: boolean }} JobWishes calm: nothing goes wrong; mirror: the
 * target is that disk; plain: full, without a bitmap
 *
 * @typedef {{ kind: "none" | "source policy" }
 *   | { kind: "cancel" | "signal", afterMs: number }
 *   | { kind: "target error", rule: object, policy: string, once: boolean }
 *   | { kind: "no space" }
 *   | { kind: "hang", how: "cancel" | "release" | "release with error", again: boolean }
 *   | { kind: "hang for ever" }
 *   | { kind: "target exit", nth: number } | { kind: "flush error" } | { kind: "onCopied throws" }
 *   | { kind: "tiny spill", file: boolean } | { kind: "guest gives way" }
 *   | { kind: "pause", afterMs: number, forMs: number } | { kind: "speed", bytes: number, forMs: number }
 *   | { kind: "finalize", cancel: boolean }} Trouble
 *
 * @typedef {object} JobPlan
 * @property {string} id
 * @property {number} disk
 * @property {"full" | "top" | "none" | "bitmap" | "incremental"} sync
 * @property {string | undefined} bitmap
 * @property {"on-success" | "never" | "always" | undefined} mode
 * @property {"fresh" | "garbage" | "update" | "mirror"} target fresh: a new sparse file; garbage: a file full of other bytes; update: the
 * image of the bitmap's checkpoint, brought up to date in place
 * @property {number | undefined} mirror
 * @property {boolean} slow the target takes its time
 * @property {Trouble} trouble
 * @property {object} options more of `BackupOptions`
 * @property {number} guestDelayMax milliseconds
 */

const mebibyte = 1024 * 1024;

/**
 * @param {import("./random.mjs").Random} random @param {string} id
 * @param {import("./plan.mjs").DiskPlan & { index: number }} disk
 * @param {{ name: string } | undefined} bitmap @param {JobWishes} wishes
 * @returns {JobPlan}
 */
export function makeJob(random, id, disk, bitmap, wishes) {
  const { sync, mode } = whatFor(random, wishes.plain === true ? undefined : bitmap, wishes);
  const partial = sync === "bitmap" || sync === "incremental";
  // A job that only keeps what guests overwrite ends by being cancelled.
  const calm = wishes.calm === true && sync !== "none";
  const trouble = calm ? /** @type {Trouble} */ ({ kind: "none" }) : troubleFor(random, wishes, sync, mode);
  /** @type {JobPlan["target"]} */
  let target = "fresh";
  if (wishes.mirror !== undefined) target = "mirror";
  else if (partial && random.chance(40)) target = "update";
  else if (sync === "full" && random.chance(40)) target = "garbage";
  const big = disk.lengthMax + mebibyte;
  const minClusterSize = random.pick([0, 0, 0, 131_072, mebibyte]);
  let spill = { memory: big, file: 0, floor: 0, allowTmpfs: true };
  if (trouble.kind === "tiny spill")
    spill = {
      memory: random.pick([65536, 131072]),
      file: trouble.file ? 64 * mebibyte : 0,
      floor: 0,
      allowTmpfs: true,
    };
  // A target that hangs and no room: guests go on all the same.
  if (trouble.kind === "hang" && random.chance(50)) spill = { memory: 65536, file: 0, floor: 0, allowTmpfs: true };
  if (trouble.kind === "guest gives way") spill = { memory: 65536, file: 0, floor: 0, allowTmpfs: true };
  return {
    id,
    disk: disk.index,
    sync,
    bitmap: sync === "none" || wishes.plain === true ? undefined : bitmap?.name,
    mode,
    target,
    mirror: wishes.mirror,
    slow: trouble.kind === "tiny spill" || trouble.kind === "guest gives way" || random.chance(40),
    trouble,
    guestDelayMax: random.pick([1, 5, 20, 20, 50]),
    options: {
      spill,
      maxWorkers: random.int(1, 3),
      maxChunk: minClusterSize === 0 ? random.pick([0, 65536, 262_144]) : random.pick([0, mebibyte]),
      minClusterSize,
      priority: random.pick(["backup", "guest"]),
      targetIsZero: target === "fresh" && random.chance(70),
      detectZeroes: random.chance(50),
      ...(trouble.kind === "guest gives way" ? { onSpillFull: "break-guest-write" } : {}),
    },
  };
}

/** @param {import("./random.mjs").Random} random @param {{ name: string } | undefined} bitmap @param {JobWishes} wishes @returns {Pick<JobPlan, "sync" | "mode">} */
function whatFor(random, bitmap, wishes) {
  // What lands on a mirror over older data is only comparable if it is all of the disk.
  if (wishes.mirror !== undefined)
    return { sync: "full", mode: bitmap === undefined ? undefined : random.pick(["on-success", "always"]) };
  if (bitmap === undefined) {
    const may =
      wishes.grouped === true || wishes.plain === true
        ? /** @type {const} */ (["full", "top"])
        : /** @type {const} */ (["full", "full", "top", "none"]);
    return { sync: random.pick(may), mode: undefined };
  }
  return random.weighted(
    /** @type {const} */ ([
      [5, { sync: "incremental", mode: undefined }],
      [1, { sync: "bitmap", mode: "on-success" }],
      [2, { sync: "bitmap", mode: "never" }],
      [4, { sync: "bitmap", mode: "always" }],
      [2, { sync: "full", mode: "on-success" }],
      [2, { sync: "full", mode: "always" }],
      [1, { sync: "top", mode: "on-success" }],
      [1, { sync: "top", mode: "always" }],
    ]),
  );
}

/** @param {import("./random.mjs").Random} random @param {JobWishes} wishes @param {string} sync @param {string | undefined} mode @returns {Trouble} */
function troubleFor(random, wishes, sync, mode) {
  const afterMs = random.int(0, 30);
  if (sync === "none") return { kind: "cancel", afterMs: afterMs + 10 };
  if (wishes.mirror !== undefined) {
    const how = random.pick(/** @type {const} */ (["cancel", "release", "release with error"]));
    return random.chance(70)
      ? { kind: "hang", how, again: random.chance(50) }
      : { kind: random.pick(["none", "cancel"]), afterMs };
  }
  const nth = random.spread(1, mode === "always" ? 4 : 10);
  const policy = random.pick(["report", "report", "ignore", "stop", "enospc"]);
  /** @type {Array<[number, Trouble]>} */
  const troubles = [
    [22, { kind: "none" }],
    [10, { kind: "cancel", afterMs }],
    [3, { kind: "signal", afterMs }],
    [12, { kind: "target error", rule: { kind: "write", nth, action: { error: "EIO" } }, policy, once: true }],
    [
      6,
      {
        kind: "target error",
        rule: { kind: "any", nth, always: true, action: { error: "EIO" } },
        policy: "report",
        once: false,
      },
    ],
    [6, { kind: "no space" }],
    [1, { kind: "hang for ever" }],
    [8, { kind: "target exit", nth }],
    [4, { kind: "flush error" }],
    [3, { kind: "onCopied throws" }],
    [10, { kind: "tiny spill", file: random.chance(40) }],
    [4, { kind: "guest gives way" }],
    [6, { kind: "pause", afterMs, forMs: random.int(5, 60) }],
    [5, { kind: "speed", bytes: random.pick([1, 65536, mebibyte]), forMs: random.int(10, 60) }],
    [5, { kind: "source policy" }],
  ];
  if (wishes.grouped !== true) troubles.push([7, { kind: "finalize", cancel: random.chance(40) }]);
  return random.weighted(troubles);
}
