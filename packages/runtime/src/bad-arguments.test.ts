/** What programs without a compiler hand over: each gets a sentence and a code, and nothing was opened or changed. */
import type { NodeSpec } from "@heirloom/block";
import type { BackupOptions, Disk, Runtime, TransactionAction } from "@heirloom/runtime";
import { expect, test } from "vitest";
import { inScene, MiB, refusalOf } from "./scene.fixture.ts";

const target = { driver: "null-co", size: MiB };

test.each<[string, unknown, string]>([
  ["nothing", undefined, "attach: Parameter 'spec' is missing, expected: object with 'driver'"],
  ["a path", "vm.img", "attach: Invalid parameter type for 'spec', expected: object with 'driver'"],
  ["no driver", { filename: "vm.img" }, "attach: Parameter 'spec.driver' is missing, expected: string"],
  ["a driver that is no name", { driver: 5 }, "attach: Invalid parameter type for 'spec.driver', expected: string"],
  ["a function", { ...target, read: () => 0 }, "attach: Invalid parameter type for 'spec.read', expected: a value"],
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
