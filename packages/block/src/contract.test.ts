import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { NodeSpec } from "@heirloom/block";
import { afterAll } from "vitest";
import { describeContract } from "./contract.fixture.ts";
import { driverSource } from "./readme.fixture.ts";

const file = (length: number, path: string): NodeSpec => ({ driver: "file", filename: path, create: { length } });
const sizeMax = 2 * 2 ** 20;

describeContract("file", { spec: file, resizable: true });
describeContract("file on tmpfs", {
  spec: file,
  resizable: true,
  directory: "/dev/shm",
});
describeContract("file that ignores discards", {
  spec: (length, path) => ({ ...file(length, path), discard: "ignore" }),
  resizable: true,
});
describeContract("memory", { spec: (size) => ({ driver: "memory", size, sizeMax }), resizable: true });
describeContract("raw with an offset and a size", {
  spec: (size, path) => ({ driver: "raw", offset: 12_345, size, file: file(size + 12_345 + 7, path) }),
  resizable: false,
});
describeContract("raw up to the end of its child", {
  spec: (size, path) => ({ driver: "raw", offset: 511, file: file(size + 511, path) }),
  resizable: true,
});
describeContract("fault whose rules do not match", {
  spec: (size) => ({
    driver: "fault",
    file: { driver: "memory", size, sizeMax },
    rules: [
      { kind: "any", action: { error: "EIO" }, armed: false },
      { kind: "any", offset: 2 ** 40, action: { error: "EIO" } },
    ],
  }),
  resizable: true,
});
describeContract("throttle", {
  spec: (size) => ({ driver: "throttle", bytesPerSecond: 1, file: { driver: "memory", size, sizeMax } }),
  resizable: true,
});

const directory = mkdtempSync(join(tmpdir(), "heirloom-driver-"));
afterAll(() => rmSync(directory, { recursive: true }));
writeFileSync(join(directory, "negate.mjs"), driverSource);
describeContract("the README's driver module, under a window", {
  spec: (length, path) => ({
    driver: "raw",
    file: { driver: pathToFileURL(join(directory, "negate.mjs")).href, file: file(length, path) },
  }),
  resizable: true,
});
