/**
 * What is compared after each step, made equal where the two are meant to differ. Each of these has its reason in README.md.
 */
import { nodes } from "./scene.mjs";

/** @typedef {import("./scene.mjs").Scene} Scene */
/** @typedef {import("./steps.mjs").Step} Step */
/** @typedef {import("./line-client.mjs").Reply} Reply */
/** @typedef {{ id: string, status: string, type: string, error?: string }} JobInfo */
/**
 * @typedef {{ device: string, status: string, speed: number, len: number, offset: number, paused: boolean, error?: string }}
 *   BlockJobInfo
 */
/**
 * @typedef {object} Bitmap
 * @property {string} node
 * @property {string} [name]
 * @property {number} count
 * @property {boolean} busy
 * @property {boolean} recording
 * @property {string} [digest]
 */
/**
 * @typedef {object} Observation
 * @property {unknown} reply
 * @property {Record<string, readonly string[]>} events by job: what was told of it, in order
 * @property {readonly object[]} jobs
 * @property {readonly object[]} blockJobs
 * @property {readonly Bitmap[]} bitmaps
 * @property {readonly object[]} nodes
 * @property {unknown} exports
 * @property {readonly BlockJobInfo[]} raw how far jobs are: not compared
 */

/** States in which a job stays until somebody does something, and one in which it may be at work. */
const atRest = new Set(["paused", "waiting", "pending", "concluded"]);
const bitmapNodes = ["d", "s", "e"];

/** @param {Scene} scene @param {Step} step @returns {Promise<Reply | string>} */
export async function perform(scene, step) {
  if (step.kind === "command") {
    const reply = await scene.daemon.client.ask(step.name, scene.here(step.args));
    return "died" in reply ? reply : inWordsOfBoth(scene.anywhere(reply));
  }
  const guest = scene.guest(step.node);
  try {
    if (step.kind === "flush") await guest.flush();
    else if (step.kind === "zeroes") await guest.writeZeroes(step.offset, step.length);
    else if (step.kind === "discard") await guest.trim(step.offset, step.length);
    else await guest.write(new Uint8Array(step.length).fill(step.value), step.offset);
    return "done";
  } catch {
    return "failed";
  }
}

/** Where the text names what only QEMU has. @param {Reply} reply @returns {Reply} */
function inWordsOfBoth(reply) {
  const { error } = reply;
  if (error === undefined) return reply;
  // Which of its users a node's permissions are in the way of is named by nodes that are not there here.
  const desc = error.desc
    .replace(/^((?:Could not create node: )?Permission conflict on node '\w+').*$/, "$1")
    // What a drive-backup opens has no name of its own.
    .replace(/^(Driver 'raw' of node) '[^']*'/, "$1");
  return { error: { class: error.class, desc } };
}

/**
 * Waits until no job is at work, and looks. A command takes QEMU's monitor half a millisecond, so no more is asked than
 * tells something.
 *
 * @param {Scene} scene
 * @param {Step} step
 * @param {unknown} reply
 * @param {ReadonlySet<string>} endless jobs that never end by themselves
 * @returns {Promise<Observation | undefined>} undefined if the daemon has ended
 */
export async function observe(scene, step, reply, endless) {
  const { client } = scene.daemon;
  for (;;) {
    const [jobs, known] = await Promise.all([client.ask("query-jobs"), client.ask("query-named-block-nodes")]);
    if ("died" in known) return undefined;
    const blockJobs = jobs.return.length === 0 ? { return: [] } : await client.ask("query-block-jobs");
    if ("died" in blockJobs) return undefined;
    if (jobs.return.every((/** @type {JobInfo} */ job) => isAtRest(job, blockJobs.return, endless))) {
      const bitmaps = await withDigests(client, bitmapsOf(known.return));
      const exports = isOfExports(step) ? await client.ask("query-block-exports") : { return: [] };
      if ("died" in exports) return undefined;
      return {
        reply,
        events: byJob(client.events.splice(0)),
        jobs: jobs.return.map((/** @type {JobInfo} */ job) => withoutProgress(job)),
        blockJobs: blockJobs.return.map((/** @type {BlockJobInfo} */ job) => withoutProgress(job)),
        bitmaps,
        nodes: nodesOf(known.return),
        // During a backup QEMU's export is of the filter.
        exports: exports.return.map((/** @type {Record<string, unknown>} */ { "node-name": _, ...rest }) => rest),
        raw: blockJobs.return,
      };
    }
    await client.news(10);
  }
}

/** @param {Step} step */
function isOfExports(step) {
  return step.kind === "command" && step.name.includes("export");
}

/** @param {JobInfo} job @param {readonly BlockJobInfo[]} blockJobs @param {ReadonlySet<string>} endless */
function isAtRest({ id, status }, blockJobs, endless) {
  if (atRest.has(status)) return true;
  if (status !== "running") return false;
  if (endless.has(id)) return true;
  const job = blockJobs.find(({ device }) => device === id);
  return job !== undefined && isSlow(job) && job.offset > 0 && job.offset < job.len;
}

/** Its next cluster comes in hours. @param {BlockJobInfo} job */
export function isSlow({ speed, status }) {
  return speed > 0 && speed < 1024 && status === "running";
}

/** How far a job is, is only compared where it has ended well. @param {JobInfo | BlockJobInfo} job */
function withoutProgress(job) {
  const { busy: _, ...rest } = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (job));
  if (job.status === "pending" || (job.status === "concluded" && job.error === undefined)) return rest;
  for (const name of ["offset", "len", "current-progress", "total-progress"]) delete rest[name];
  return rest;
}

/** @param {ReadonlyArray<Record<string, any>>} known @returns {Bitmap[]} */
function bitmapsOf(known) {
  return bitmapNodes.flatMap((node) => {
    const listed = /** @type {Bitmap[]} */ (known.find((one) => one["node-name"] === node)?.["dirty-bitmaps"] ?? []);
    return (
      listed
        // A job's own set of clusters is a bitmap of the node in QEMU.
        .filter(({ name, recording }) => name !== undefined || recording)
        .map((bitmap) => ({ ...bitmap, node }))
    );
  });
}

/** @param {import("./line-client.mjs").LineClient} client @param {readonly Bitmap[]} bitmaps @returns {Promise<Bitmap[]>} */
async function withDigests(client, bitmaps) {
  return Promise.all(
    bitmaps.map(async (bitmap) => {
      const { node, name } = bitmap;
      if (name === undefined) return bitmap;
      const answer = await client.ask("x-debug-block-dirty-bitmap-sha256", { node, name });
      return { ...bitmap, digest: answer.return?.sha256 };
    }),
  );
}

/** @param {ReadonlyArray<Record<string, any>>} known */
function nodesOf(known) {
  return known
    .filter((one) => nodes.includes(one["node-name"]) || ["n", "r"].includes(one["node-name"]))
    .map((one) => ({ name: one["node-name"], driver: one.drv, readOnly: one.ro, length: one.image["virtual-size"] }));
}

/** @param {readonly import("./line-client.mjs").Event[]} events @returns {Record<string, readonly string[]>} */
function byJob(events) {
  /** @type {Record<string, string[]>} */
  const stories = {};
  for (const { event, data } of events) {
    const id = `${event === "BLOCK_EXPORT_DELETED" ? "export " : ""}${data.id ?? data.device}`;
    (stories[id] ??= []).push(line(event, data));
  }
  const kept = Object.entries(stories).map(([id, story]) => [id, withoutDrains(story)]);
  return Object.fromEntries(kept.filter(([, story]) => story.length > 0));
}

/** @param {string} name @param {Record<string, any>} data */
function line(name, data) {
  if (name === "JOB_STATUS_CHANGE") return String(data.status);
  if (name === "BLOCK_JOB_COMPLETED" && data.error === undefined) {
    return `${name} ${data.len} ${data.offset} ${data.speed}`;
  }
  const { error, operation, action, speed } = data;
  return [name, error, operation, action, speed].filter((part) => part !== undefined).join(" ");
}

/** Without what is a matter of pace: draining pauses a job and lets it go on. @param {readonly string[]} story @returns {string[]} */
function withoutDrains(story) {
  /** @type {string[]} */
  const kept = [];
  for (const entry of story) {
    if (entry === "running" && kept.at(-1) === "paused") kept.pop();
    else if (entry === "running" && kept.at(-1) === "running") continue;
    // Of a group's job, when another one fails: it had copied everything by then, or it had not.
    else if (entry === "aborting" && kept.at(-1) === "waiting") kept[kept.length - 1] = entry;
    // Errors of parallel requests are each told; how many there are is a matter of luck.
    else if (entry.startsWith("BLOCK_JOB_ERROR") && kept.at(-1) === entry) continue;
    else kept.push(entry);
  }
  return kept;
}
