/**
 * Row 4: how long a transition keeps guests out, retries added, while a guest writes as fast as it can and copiers run.
 *
 * Freeze and abdicate are those of incrementals, one after the other: the guest writes in a small part of the disk, so that
 * each is over in some milliseconds and a thousand of them do not take all day. Reclaim is that of full backups with two
 * copiers, cancelled in the middle.
 */
import { truncateSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Guest } from "../guest.mjs";
import { createRuntime } from "../heirloom.mjs";
import { percentile } from "../sampling.mjs";
import { Stage } from "../stage.mjs";

const clusterSize = 65536;
const hotBytes = 16 * 2 ** 20;
const gib = 2 ** 30;

export const name = "gate";
export const title = "how long guests are kept out, one guest writing, copiers running";

export async function* figures({ quick }) {
  const samples = quick ? 100 : 1000;
  for (const [size, make] of [
    ["1 GiB", (stage) => pairOf(stage, gib, true)],
    ["2 GiB", (stage) => pairOf(stage, 2 * gib, true)],
    ["16 TiB sparse", (stage) => pairOf(stage, 16 * 1024 * gib, false)],
  ]) {
    const { freeze, abdicate, guest } = await measureFreezes(make, samples);
    const note = `guest meanwhile: ${guest.iops.toFixed(0)} writes/s, p99 ${(guest.histogram.percentile(0.99) / 1000).toFixed(1)} us`;
    yield figure("gate-freeze", `freeze, ${size}: p99`, freeze, 0.99, 300);
    yield {
      ...figure("gate-abdicate", `abdicate, ${size}: p99`, abdicate, 0.99, 300),
      note: `${spread(abdicate)}; ${note}`,
    };
  }
  const { reclaim, threads } = await measureReclaims(samples);
  const p99us = availableParallelism() > 3 ? 300 : 5000;
  const many = threads === 2 ? "two copiers" : `${threads} COPIER, not two`;
  yield {
    ...figure("gate-reclaim", `reclaim, 2 GiB, ${many}: p50`, reclaim, 0.5, 100),
    ...(threads === 2 ? {} : { reached: undefined }),
  };
  yield {
    ...figure("gate-reclaim", `reclaim, 2 GiB, ${many}: p99`, reclaim, 0.99, p99us),
    ...(threads === 2 ? {} : { reached: undefined }),
  };
}

/** @param samples closed times, milliseconds */
function figure(row, what, samples, share, barUs) {
  const ours = percentile(samples, share) * 1000;
  return { row, what, ours, unit: "us", bar: `< ${barUs} us`, reached: ours < barUs, note: spread(samples) };
}

function spread(samples) {
  const [p50, p99, max] = [0.5, 0.99, 1].map((share) => (percentile(samples, share) * 1000).toFixed(1));
  return `${samples.length} samples: p50 ${p50}, p99 ${p99}, max ${max} us`;
}

/** A source and a target on tmpfs; allocated, or sparse. */
function pairOf(stage, length, allocated) {
  const node = (file) => {
    const filename = allocated ? stage.filled(file, length) : stage.path(file);
    if (!allocated) {
      writeFileSync(filename, "");
      truncateSync(filename, length);
    }
    return { driver: "file", filename };
  };
  return { source: node("source.raw"), target: node("target.raw") };
}

async function measureFreezes(make, samples) {
  const stage = new Stage("tmpfs");
  const runtime = createRuntime();
  try {
    const { source, target } = make(stage);
    const disk = await runtime.attach(source);
    await disk.bitmaps.add("daily", { granularity: clusterSize });
    const guest = await Guest.start(runtime, disk, { length: hotBytes });
    const freeze = [];
    const abdicate = [];
    const warmUp = Math.ceil(samples / 20);
    guest.begin();
    for (let count = 0; count < samples + warmUp; count++) {
      const job = await runtime.backup({ disk, target, bitmap: "daily" });
      const result = await job.done;
      if (result.status !== "completed") throw new Error(`backup: ${result.error}`);
      if (count < warmUp) continue;
      freeze.push(result.freezeMs);
      abdicate.push(result.endMs);
    }
    const report = await guest.end();
    await guest.close();
    return { freeze, abdicate, guest: report };
  } finally {
    await runtime.close();
    stage.close();
  }
}

async function measureReclaims(samples) {
  const stage = new Stage("tmpfs");
  const runtime = createRuntime();
  try {
    const { source, target } = pairOf(stage, 2 * gib, true);
    const disk = await runtime.attach(source);
    await disk.bitmaps.add("daily", { granularity: clusterSize });
    const guest = await Guest.start(runtime, disk);
    const reclaim = [];
    const threads = await copiersOf(runtime, { disk, target, sync: "full" });
    guest.begin();
    for (let count = 0; count < samples; count++) {
      const job = await runtime.backup({
        disk,
        target,
        sync: "full",
        bitmap: "daily",
        bitmapMode: "on-success",
        maxWorkers: 2,
      });
      // Not always at the same place of a copier's loop.
      await sleep(2 + (count % 5));
      job.cancel();
      const result = await job.done;
      if (result.status !== "completed") reclaim.push(result.endMs);
    }
    await guest.end();
    await guest.close();
    return { reclaim, threads };
  } finally {
    await runtime.close();
    stage.close();
  }
}

/** How many copiers a job gets that asks for two: one more than after a job with one, or not. */
async function copiersOf(runtime, options) {
  await (
    await runtime.backup({ ...options, maxWorkers: 1 })
  ).done;
  const before = runtime.inspect().threads;
  const job = await runtime.backup({ ...options, maxWorkers: 2 });
  const after = runtime.inspect().threads;
  await job.done;
  return 1 + after - before;
}
