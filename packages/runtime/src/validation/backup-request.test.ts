import { describe, expect, test } from "vitest";
import { checkBackup, errorAction, onErrors, type BackupRequest } from "./backup-request.ts";
import type { BitmapFacts, Facts, NodeFacts } from "./facts.ts";
import { bitmapModes, isBitmapPair, syncs } from "./outcome.ts";
import type { Checked } from "../errors.ts";

function bitmap(name: string, condition: Partial<BitmapFacts> = {}): BitmapFacts {
  return { name, granularity: 65536, size: 1048576, busy: false, readonly: false, inconsistent: false, ...condition };
}

function node(name: string, facts: Partial<NodeFacts> = {}): NodeFacts {
  return {
    name,
    length: 1048576,
    clusterSize: 0,
    readOnly: false,
    identity: name,
    compression: true,
    bitmap: () => undefined,
    storeRefusal: () => undefined,
    ...facts,
  };
}

const bitmaps = [
  bitmap("b"),
  bitmap("busy", { busy: true, readonly: true, inconsistent: true }),
  bitmap("ro", { readonly: true }),
  bitmap("inc", { inconsistent: true, readonly: true }),
];
const nodes = [
  node("a", { bitmap: (name) => bitmaps.find((each) => each.name === name) }),
  node("t"),
  node("same", { identity: "a" }),
  node("plain", { compression: false, length: 512 }),
  node("short", { length: 512 }),
  node("taken", { targetBlocked: "block device is in use by block job: backup" }),
  node("target", { sourceBlocked: "block device is in use by block job: backup" }),
  node("hung", { lettingGo: "old" }),
  node("readonly", { readOnly: true }),
  node("big", { clusterSize: 2097152 }),
];
const facts: Facts = { node: (name) => nodes.find((each) => each.name === name), job: (id) => id === "taken" };

function check(request: Record<string, unknown>): Checked<unknown> {
  return checkBackup(
    { jobId: "j", source: "a", target: "t", sync: "full", ...request } as unknown as BackupRequest,
    facts,
  );
}

function desc(request: Record<string, unknown>): string {
  const checked = check(request);
  return checked.ok ? "accepted" : checked.refusal.desc;
}

const busy = "Node 'taken' is busy: block device is in use by block job: backup";
const inUse = "Bitmap 'busy' is currently in use by another operation and cannot be used";

/** In the order of the checks: each refusal, numbered as in the reference. */
const refusals: readonly (readonly [string, Record<string, unknown>, string])[] = [
  ["0 sync", { sync: "foo" }, "Parameter 'sync' does not accept value 'foo'"],
  ["0 mode", { bitmapMode: "on-failure" }, "Parameter 'bitmap-mode' does not accept value 'on-failure'"],
  ["0 policy", { onSourceError: "foo" }, "Parameter 'on-source-error' does not accept value 'foo'"],
  ["0 policy", { onTargetError: "foo" }, "Parameter 'on-target-error' does not accept value 'foo'"],
  ["0 type", { source: undefined }, "Invalid parameter type for 'source', expected: string"],
  ["0 type", { speed: "1" }, "Invalid parameter type for 'speed', expected: integer"],
  ["0 type", { autoFinalize: 1 }, "Invalid parameter type for 'autoFinalize', expected: boolean"],
  ["1 source", { source: "x" }, "Cannot find device='x' nor node-name='x'"],
  ["1 target", { target: "x" }, "Cannot find device='x' nor node-name='x'"],
  ["2 bitmap", { sync: "bitmap" }, "must provide a valid bitmap name for 'bitmap' sync mode"],
  ["2 incremental", { sync: "incremental" }, "must provide a valid bitmap name for 'incremental' sync mode"],
  [
    "3",
    { sync: "incremental", bitmap: "nope", bitmapMode: "always" },
    "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
  ],
  ["4", { sync: "bitmap", bitmap: "nope" }, "Bitmap 'nope' could not be found"],
  ["5", { sync: "none", bitmap: "busy" }, "Bitmap sync mode must be given when providing a bitmap"],
  ["6 busy", { sync: "none", bitmap: "busy", bitmapMode: "never" }, inUse],
  [
    "6 inconsistent",
    { sync: "none", bitmap: "inc", bitmapMode: "never" },
    "Bitmap 'inc' is inconsistent and cannot be used",
  ],
  [
    "7",
    { sync: "none", bitmap: "b", bitmapMode: "never", target: "a" },
    "sync mode 'none' does not produce meaningful bitmap outputs",
  ],
  [
    "8 full",
    { sync: "full", bitmap: "b", bitmapMode: "never", target: "a" },
    "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'full'",
  ],
  [
    "8 top",
    { sync: "top", bitmap: "ro", bitmapMode: "never", target: "a" },
    "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'top'",
  ],
  ["9", { bitmapMode: "never", target: "a" }, "Cannot specify bitmap sync mode without a bitmap"],
  ["10 name", { target: "a", compress: true }, "Source and target cannot be the same"],
  ["10 storage", { target: "same" }, "Source and target cannot be the same"],
  ["11", { target: "plain", compress: true }, "Compression is not supported for this drive plain"],
  ["12 target", { target: "taken", maxWorkers: 0 }, busy],
  ["12 source", { source: "target", target: "taken" }, busy.replace("taken", "target")],
  [
    "12 letting go",
    { target: "hung", maxWorkers: 0 },
    "Node 'hung' is busy: job 'old' has ended and is still letting go of it",
  ],
  ["13 workers", { maxWorkers: 0, maxChunk: -1 }, "max-workers must be between 1 and 2147483647"],
  ["13 workers", { maxWorkers: 2147483648 }, "max-workers must be between 1 and 2147483647"],
  ["13 chunk", { maxChunk: -1, minClusterSize: 3 }, "max-chunk must be zero (which means no limit) or positive"],
  [
    "13 cluster",
    { minClusterSize: 3, sync: "bitmap", bitmap: "ro", bitmapMode: "always" },
    "min-cluster-size needs to be a power of 2",
  ],
  [
    "14",
    { sync: "bitmap", bitmap: "ro", bitmapMode: "always", target: "short" },
    "Bitmap 'ro' is readonly and cannot be modified",
  ],
  ["15", { target: "short", filterNodeName: "#f" }, "Source and target image have different sizes"],
  ["16 name", { filterNodeName: "0", target: "readonly" }, "Could not create node: Invalid node-name: '0'"],
  [
    "16 taken",
    { filterNodeName: "a", target: "readonly" },
    "Could not create node: Duplicate nodes with node-name='a'",
  ],
  ["16 read-only", { target: "readonly", maxChunk: 1 }, "Could not create node: Block node is read-only"],
  ["17", { maxChunk: 65535, jobId: "0" }, "Required max-chunk (65535) is less than backup cluster size (65536)"],
  [
    "17 target",
    { maxChunk: 65536, target: "big" },
    "Required max-chunk (65536) is less than backup cluster size (2097152)",
  ],
  ["18 id", { jobId: "0", speed: -1 }, "Invalid job ID '0'"],
  ["18 no id", { jobId: undefined }, "Invalid job ID ''"],
  ["18 taken", { jobId: "taken", speed: -1 }, "Job ID 'taken' already in use"],
  ["18 speed", { speed: -1 }, "Parameter 'speed' expects a non-negative value"],
];

describe("a backup request", () => {
  test.each(refusals)("%s: %j", (_number, request, expected) => {
    expect(desc(request)).toBe(expected);
  });

  test("is complete afterwards", () => {
    expect(check({ sync: "incremental", bitmap: "b" })).toEqual({
      ok: true,
      value: {
        jobId: "j",
        source: "a",
        target: "t",
        sync: "incremental",
        set: "bitmap",
        copies: true,
        bitmap: { name: "b", mode: "on-success" },
        clusterSize: 65536,
        speed: 0,
        compress: false,
        onSourceError: "report",
        onTargetError: "report",
        autoFinalize: true,
        autoDismiss: true,
        maxWorkers: 64,
        maxChunk: 0,
      },
    });
  });

  test.each(syncs.flatMap((sync) => bitmapModes.map((mode) => [sync, mode] as const)))(
    "%s with a bitmap and mode %s is accepted exactly where the table of outcomes has it",
    (sync, mode) => {
      expect(check({ sync, bitmap: "b", bitmapMode: mode }).ok).toBe(isBitmapPair(sync, mode));
    },
  );

  test("mode never is the only one that takes a readonly bitmap", () => {
    expect(desc({ sync: "bitmap", bitmap: "ro", bitmapMode: "never" })).toBe("accepted");
    for (const bitmapMode of ["on-success", "always"]) {
      expect(desc({ sync: "full", bitmap: "ro", bitmapMode })).toBe("Bitmap 'ro' is readonly and cannot be modified");
    }
  });

  test("the set follows the sync mode, and none copies nothing by itself", () => {
    const sets = ["full", "top", "none"].map((sync) => check({ sync }));
    expect(sets).toMatchObject([
      { value: { set: "all", copies: true, bitmap: null } },
      { value: { set: "allocated", copies: true } },
      { value: { set: "all", copies: false } },
    ]);
  });

  test("the job's cluster is the largest of 64 KiB, the target's and the one asked for", () => {
    expect(check({ target: "big" })).toMatchObject({ value: { clusterSize: 2097152 } });
    expect(check({ minClusterSize: 131072 })).toMatchObject({ value: { clusterSize: 131072 } });
    expect(check({ minClusterSize: 512 })).toMatchObject({ value: { clusterSize: 65536 } });
  });

  test("error policies (reference 3.6)", () => {
    const actions = onErrors.map((policy) => [policy, errorAction(policy, true), errorAction(policy, false)]);
    expect(actions).toEqual([
      ["report", "report", "report"],
      ["ignore", "ignore", "ignore"],
      ["enospc", "stop", "report"],
      ["stop", "stop", "stop"],
      ["auto", "stop", "report"],
    ]);
  });
});
