/** What programs without a compiler hand over: each gets a sentence and a code, and nothing was opened or changed. */
import { existsSync, writeFileSync } from "node:fs";
import type { NodeSpec } from "@heirloom/block";
import {
  type BackupOptions,
  createRuntime,
  type Disk,
  type Runtime,
  type RuntimeOptions,
  type TransactionAction,
} from "@heirloom/runtime";
import { expect, test } from "vitest";
import { inScene, MiB, refusalOf } from "./scene.fixture.ts";

const target = { driver: "null-co", size: MiB };
const endless: Record<string, unknown> = { driver: "raw" };
endless.file = endless;

test.each<[unknown, string]>([
  [null, "Option 'options' must be an object, not null"],
  [{ engine: { ioThreadsMax: 0 } }, "Option 'engine.ioThreadsMax' must be a whole number from 1 to 1024, not 0"],
  [{ engine: { threadsMax: "8" } }, "Option 'engine.threadsMax' must be a whole number from 1 to 1024, not 8"],
  [{ spill: { floor: 2 } }, "Option 'spill.floor' must be a number from 0 to 1, not 2"],
  [{ guestDelayMax: -1 }, "Option 'guestDelayMax' must be a number from 0 to 3600000, not -1"],
  [{ freezeDeadlineMs: Number.NaN }, "Option 'freezeDeadlineMs' must be milliseconds, 0 or more, not NaN"],
  [{ now: 5 }, "Option 'now' must be a function, not 5"],
])("a runtime of %j is refused", async (options, text) => {
  const { code, desc } = await refusalOf(() => createRuntime(options as RuntimeOptions));
  expect([code, desc]).toEqual(["ERR_INVALID_ARGUMENT", text]);
});

test("events with a signal that is none, and a listener that is none, are refused, and the runtime closes", () =>
  inScene(async ({ runtime }) => {
    expect(await refusalOf(() => runtime.events({ signal: 5 as never }))).toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
    });
    expect(await refusalOf(() => runtime.onEvent(5 as never))).toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  }));

test("a backup that is refused leaves no target behind that was made for it", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", MiB);
    const target = scene.target(MiB);
    const through = { driver: "fault", file: target, rules: [] };
    for (const to of [target, through])
      expect(await refusalOf(() => scene.runtime.backup({ disk, bitmap: "b", target: to }))).toMatchObject({
        code: "ERR_BITMAP_NOT_FOUND",
      });
    expect(existsSync(target.filename)).toBe(false);
    // One that may have been there before stays.
    const found = { driver: "file", filename: scene.path("a.copy"), create: { length: MiB, overwrite: true } };
    writeFileSync(found.filename, "mine");
    expect((await refusalOf(() => scene.runtime.backup({ disk, bitmap: "b", target: found }))).code).not.toBe("none");
    expect(existsSync(found.filename)).toBe(true);
  }));

test("a signal that is aborted while a backup opens its target: it is thrown, and nothing has changed", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", MiB);
    await disk.bitmaps.add("b");
    const controller = new AbortController();
    const target = scene.target(MiB);
    const full = { disk, target, sync: "full", bitmap: "b", bitmapMode: "on-success" } as const;
    const refused = scene.runtime.backup({ ...full, signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(refused).rejects.toThrow("enough");
    expect([scene.events, existsSync(target.filename), disk.bitmaps.get("b").state]).toEqual([[], false, "recording"]);
  }));

test.each<[string, unknown, string]>([
  ["nothing", undefined, "attach: Parameter 'spec' is missing, expected: object with 'driver'"],
  ["a path", "vm.img", "attach: Invalid parameter type for 'spec', expected: object with 'driver'"],
  ["no driver", { filename: "vm.img" }, "attach: Parameter 'spec.driver' is missing, expected: string"],
  ["a driver that is no name", { driver: 5 }, "attach: Invalid parameter type for 'spec.driver', expected: string"],
  ["a function", { ...target, read: () => 0 }, "attach: Invalid parameter type for 'spec.read', expected: a value"],
  ["a node that is its own file", endless, "attach: Invalid parameter type for 'spec', expected: at most 100 nodes on"],
  ["a driver of our own", { driver: "attached", node: {} }, "attach: Invalid parameter type for 'spec.driver'"],
  ["no driver under it", { driver: "raw", file: {} }, "attach: Parameter 'spec.file.driver' is missing"],
])("attaching %s is refused", (_what, spec, text) =>
  inScene(async ({ runtime }) => {
    const { code, message } = await refusalOf(() => runtime.attach(spec as NodeSpec));
    expect([code, message]).toEqual(["ERR_INVALID_ARGUMENT", expect.stringContaining(text)]);
    expect(runtime.disks).toEqual([]);
  }),
);

test.each<[string, (disk: Disk) => unknown, string]>([
  ["nothing", () => undefined, "Parameter 'disk' is missing, expected: a disk, or its name"],
  ["a disk that is a number", () => ({ disk: 5, target }), "Invalid parameter type for 'disk', expected: a disk"],
  ["no target", (disk) => ({ disk, sync: "full" }), "backup: Parameter 'target' is missing, expected: object"],
  ["a path as the target", (disk) => ({ disk, target: "x.raw" }), "backup: Invalid parameter type for 'target'"],
  [
    "a target on an attached disk",
    (disk) => ({ disk, target: { driver: "raw", file: disk } }),
    "backup: Invalid parameter type for 'target.file', expected: a node; attach the window, and give that disk",
  ],
  [
    "a signal that is none",
    (disk) => ({ disk, target, signal: {} }),
    "backup: Invalid parameter type for 'signal', expected: AbortSignal",
  ],
  ["a disk within the target", (disk) => ({ disk, target: { disk } }), "backup: Parameter 'target.driver' is missing"],
])("a backup with %s is refused", (_what, options, text) =>
  inScene(async ({ runtime }) => {
    const disk = await runtime.attach({ ...target });
    const { code, message } = await refusalOf(() => runtime.backup(options(disk) as BackupOptions));
    expect([code, message]).toEqual(["ERR_INVALID_ARGUMENT", expect.stringContaining(text)]);
    expect(runtime.jobs).toEqual([]);
  }),
);

test.each<[unknown, string]>([
  [5, "transaction: Invalid parameter type for 'actions', expected: array"],
  [[null], "transaction: Invalid parameter type for 'actions[0]', expected: object"],
  [
    [{ type: "snapshot" }],
    "transaction: Invalid parameter type for 'actions[0].type', expected: one of abort, backup,",
  ],
  [[{ type: "abort" }, { type: "bitmap-clear", name: "b" }], "transaction: Parameter 'disk' is missing"],
  [[{ type: "bitmap-merge", disk: "d", target: "b" }], "bitmap merge: Parameter 'sources' is missing, expected: array"],
  [
    [{ type: "bitmap-merge", disk: "d", target: "b", sources: ["a", null] }],
    "bitmap merge: Invalid parameter type for 'sources[1]', expected: a bitmap's name, or { disk, name }",
  ],
  [
    [{ type: "bitmap-merge", disk: "d", target: "b", sources: [{ name: "b" }] }],
    "bitmap merge: Parameter 'sources[0].disk' is missing, expected: a disk, or its name",
  ],
])("a transaction of %j is refused", (actions, text) =>
  inScene(async ({ runtime }: { readonly runtime: Runtime }) => {
    const { code, message } = await refusalOf(() => runtime.transaction(actions as TransactionAction[]));
    expect([code, message]).toEqual(["ERR_INVALID_ARGUMENT", expect.stringContaining(text)]);
  }),
);

test("a request whose buffer is a text is refused, and nothing was written", () =>
  inScene(async (scene) => {
    const disk = await scene.disk("a", MiB);
    await disk.bitmaps.add("b");
    for (const request of [disk.write("abc" as never, 0), disk.read([0, 0] as never, 0)])
      expect(await refusalOf(() => request)).toMatchObject({
        code: "ERR_REQUEST",
        message: expect.stringContaining("the buffer must be a Uint8Array") as string,
      });
    expect(disk.bitmaps.get("b").count).toBe(0);
    await using view = disk.view();
    expect(await refusalOf(() => view.read("abc" as never, 0))).toMatchObject({ code: "ERR_REQUEST" });
  }));
