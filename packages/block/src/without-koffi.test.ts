/** Files through node:fs. The variable is read at the first system call of each thread, and threads inherit it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  allocateRange,
  capabilities,
  closeNode,
  connectNode,
  copyFileRange,
  ENOSYS,
  fileSystemOf,
  openNode,
} from "@heirloom/block";
import { expect, test } from "vitest";
import { describeContract } from "./contract.fixture.ts";
import { scratchDirectory } from "./tool.fixture.ts";

process.env.HEIRLOOM_NO_KOFFI = "1";

test("capabilities say that there is no koffi, and why", () => {
  expect(capabilities()).toMatchObject({ native: false, imageLocks: false, reason: "HEIRLOOM_NO_KOFFI is 1" });
});

describeContract("file without koffi", {
  spec: (length, filename) => ({ driver: "file", filename, locking: "off", create: { length } }),
  resizable: true,
});

test("an image is opened for writing only with locking: 'off', and the refusal says so", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  writeFileSync(filename, "12345");
  await expect(openNode({ driver: "file", filename })).rejects.toMatchObject({
    code: "ERR_NOT_SUPPORTED",
    message: expect.stringContaining("expected locking: 'off', with nobody else using the image") as string,
  });
  const handle = await openNode({ driver: "file", filename, readOnly: true });
  const bytes = Buffer.alloc(5);
  expect(connectNode(handle).read(bytes, 0)).toBe(0);
  expect(bytes.toString()).toBe("12345");
  closeNode(handle);
});

test("a refused create leaves no file, and a refused overwrite the file as it was", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  await expect(openNode({ driver: "file", filename, create: { length: 1 } })).rejects.toThrow("image locks need koffi");
  expect(() => readFileSync(filename)).toThrow("ENOENT");
  writeFileSync(filename, "12345");
  const create = { length: 1, overwrite: true };
  await expect(openNode({ driver: "file", filename, create })).rejects.toThrow("image locks need koffi");
  expect(readFileSync(filename, "utf8")).toBe("12345");
});

test("holes are written as zeroes and what cannot be done says ENOSYS", async () => {
  const filename = join(scratchDirectory(), "a.raw");
  const handle = await openNode({ driver: "file", filename, locking: "off", create: { length: 8192 } });
  const node = connectNode(handle);
  node.write(new Uint8Array(8192).fill(1), 0);
  expect(node.writeZeroes(100, 200, true)).toBe(0);
  expect(readFileSync(filename).indexOf(0)).toBe(100);
  expect(readFileSync(filename).lastIndexOf(0)).toBe(299);
  const extent = { length: 0, zero: true, allocated: false };
  expect(node.status(0, 8192, extent)).toBe(0);
  expect(extent).toEqual({ length: 8192, zero: false, allocated: true });
  const { fd } = node.direct!;
  expect(copyFileRange(fd, 0, fd, 4096, 10)).toBe(-ENOSYS);
  expect(allocateRange(fd, 0, 10)).toBe(ENOSYS);
  expect(fileSystemOf(fd)).toMatchObject({ bytesTotal: expect.any(Number) as number });
  closeNode(handle);
});
