/** What a run has seen so far: for the progress line, the summary, and the failures that end it. */
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
/** What is garbage must not count as memory that is lost. @type {() => void} */
const collectGarbage = runInNewContext("gc");

export class Tally {
  /** @param {number} untilMs when no further round begins, as `Date.now` says it */
  constructor(untilMs) {
    this.untilMs = untilMs;
    /** @type {{ text: string, details: object }[]} */
    this.failures = [];
    this.rounds = 0;
    this.epochs = 0;
    /** Jobs by how they ended. @type {Record<string, number>} */
    this.jobs = {};
    /** Rounds' commands that were refused, by code. @type {Record<string, number>} */
    this.refusals = {};
    /** Checks that were made, by what they are of. @type {Record<string, number>} */
    this.checks = {};
    this.views = 0;
    this.broken = 0;
    this.deaths = 0;
    this.requests = 0;
    this.bytes = 0;
    this.delayMaxMs = 0;
    this.sharedMax = 0;
    /** VmRSS at the end of each epoch, MiB. @type {number[]} */
    this.rss = [];
  }

  get over() {
    return Date.now() >= this.untilMs || this.failures.length > 0;
  }

  /** @param {string} text @param {object} details */
  fail(text, details) {
    // One wrong cluster may be met by every writer: the first few say it all.
    if (this.failures.length < 20) this.failures.push({ text, details });
  }

  /** @param {string} check @param {number} [count] */
  checked(check, count = 1) {
    this.checks[check] = (this.checks[check] ?? 0) + count;
  }

  /** @param {string} status @param {string | null} error */
  ended(status, error) {
    this.jobs[status] = (this.jobs[status] ?? 0) + 1;
    if (error?.includes("given up") === true) this.broken++;
  }

  /** @param {import("./crew.mjs").Crew} crew */
  add(crew) {
    this.deaths += crew.deaths;
    this.requests += crew.requests;
    this.bytes += crew.bytes;
    this.delayMaxMs = Math.max(this.delayMaxMs, crew.delayMaxMs);
    collectGarbage();
    this.rss.push(
      Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? 0) / 1024),
    );
  }

  get line() {
    const jobs = Object.entries(this.jobs).map(([status, count]) => `${count} ${status}`);
    return `epoch ${this.epochs}, ${this.rounds} rounds; jobs: ${jobs.join(", ") || "none yet"}; ${this.broken} broken views, ${this.deaths} deaths`;
  }

  get summary() {
    const { epochs, rounds, jobs, broken, views, deaths, requests, delayMaxMs, refusals, checks, rss } = this;
    return {
      epochs,
      rounds,
      jobs,
      "broken views": broken,
      "views read": views,
      "writers' deaths": deaths,
      "guest requests": requests,
      "MiB written": Math.round(this.bytes / 2 ** 20),
      "KiB of shared memory at most": Math.round(this.sharedMax / 1024),
      "longest delay of a guest, ms": Math.round(delayMaxMs),
      "refused, by code": refusals,
      checks,
      "VmRSS by epoch, MiB": rss.length > 12 ? [...rss.slice(0, 6), ...rss.slice(-6)] : rss,
    };
  }
}
