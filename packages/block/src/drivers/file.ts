/**
 * `file` and `host_device`: a disk that is a regular file or a block device. Opening, creating, locking, closing; the
 * verbs are in `file-node.ts`.
 *
 * Descriptors belong to the process and not to a thread, so the handle carries the number and every thread uses it
 * through pread and pwrite, which share no position.
 */
import assert from "node:assert/strict";
import { type BigIntStats, fstatSync, unlinkSync } from "node:fs";
import { resolve } from "node:path";
import { BlockError } from "../block-error.ts";
import { EEXIST } from "../errno.ts";
import { lockImage } from "../image-lock.ts";
import * as libc from "../libc.ts";
import type { Driver, NodeHandle } from "../node.ts";
import type { OptionTable } from "../options.ts";
import { storeSharedInteger } from "../shared-integer.ts";
import { CLOSED_WORD, FileNode, type FileState, READ_ONLY_WORD, SHARED_WORDS } from "./file-node.ts";
import { identityOf, reopenFile } from "./file-reopening.ts";

interface FileOptions {
  readonly filename: string;
  readonly readOnly: boolean;
  readonly locking: "on" | "off";
  readonly discard: "unmap" | "ignore";
  readonly create?: { readonly length: number; readonly overwrite: boolean };
}

/** Linux's block layer works in pages; what is smaller at the edges of a range is written as bytes. */
const DEVICE_UNIT = 4096;

const commonOptions: OptionTable = {
  filename: { type: "string", required: true, doc: "path of the image or device" },
  readOnly: { type: "boolean", default: false, doc: "refuse changes; opens without write permission" },
  locking: { type: "choice", values: ["on", "off"], default: "on", doc: "take QEMU's image locks" },
  discard: { type: "choice", values: ["unmap", "ignore"], default: "unmap", doc: "whether discards give room back" },
};

const fileOptions: OptionTable = {
  ...commonOptions,
  create: {
    type: "object",
    doc: "make a new sparse file",
    fields: {
      length: { type: "integer", required: true, doc: "bytes" },
      overwrite: { type: "boolean", default: false, doc: "empty an existing file instead of refusing it" },
    },
  },
};

export const file: Driver = {
  options: fileOptions,
  open: (options) => openFile("file", options as unknown as FileOptions),
  connect: (handle) => new FileNode(handle),
  reopen: reopenFile,
  close: closeFile,
};

/** As QEMU's driver of that name: a block device or nothing. */
export const hostDevice: Driver = {
  options: commonOptions,
  open: (options) => openFile("host_device", options as unknown as FileOptions),
  connect: (handle) => new FileNode(handle),
  reopen: reopenFile,
  close: closeFile,
};

function openFile(driver: string, options: FileOptions): NodeHandle {
  const { filename, readOnly, create } = options;
  if (create !== undefined && readOnly) {
    const message = `create '${filename}': expected readOnly: false with create`;
    throw new BlockError("ERR_NODE_OPTION", message, { node: filename });
  }
  const exclusive = create !== undefined && !create.overwrite;
  const flags =
    (readOnly ? libc.O_RDONLY : libc.O_RDWR) |
    libc.O_NONBLOCK | // a FIFO must not hold the open
    (create === undefined ? 0 : libc.O_CREAT) |
    (exclusive ? libc.O_EXCL : 0);
  const fd = libc.openFile(resolve(filename), flags, 0o644);
  if (fd < 0) throw openError(filename, -fd, exclusive);
  try {
    const status = fstatSync(fd, { bigint: true });
    checkKind(driver, filename, status, create !== undefined);
    // The lock comes before the first change, and before the length is looked at.
    if (options.locking === "on") lockImage(fd, filename, readOnly);
    if (create !== undefined) makeEmpty(fd, filename, create.length);
    return makeHandle(driver, options, fd, status.isBlockDevice());
  } catch (error) {
    // Ours alone since O_EXCL, unless somebody was quick enough to open and lock it.
    const taken = error instanceof BlockError && error.code === "ERR_IMAGE_LOCKED";
    if (exclusive && !taken) unlinkSync(resolve(filename));
    libc.closeFile(fd);
    throw error;
  }
}

function openError(filename: string, errno: number, exclusive: boolean): BlockError {
  if (exclusive && errno === EEXIST) {
    const message = `create '${filename}': it exists already; expected a new name, or create.overwrite: true`;
    return new BlockError("ERR_NODE_OPEN", message, { node: filename, errno });
  }
  return BlockError.system("ERR_NODE_OPEN", `open '${filename}'`, errno, { node: filename });
}

function checkKind(driver: string, filename: string, status: BigIntStats, create: boolean): void {
  if (status.isBlockDevice() && !create) return;
  if (status.isFile() && driver !== "host_device") return;
  const expected = create
    ? "a regular file to create"
    : driver === "host_device"
      ? "a block device"
      : "a regular file or a block device";
  throw new BlockError("ERR_NODE_OPEN", `open '${filename}': expected ${expected}`, { node: filename });
}

function makeEmpty(fd: number, filename: string, length: number): void {
  const errno = libc.truncateFile(fd, 0) || libc.truncateFile(fd, length);
  if (errno === 0) return;
  throw BlockError.system("ERR_NODE_OPEN", `create '${filename}' with ${length} bytes`, errno, { node: filename });
}

function makeHandle(driver: string, options: FileOptions, fd: number, isDevice: boolean): NodeHandle {
  const status = fstatSync(fd, { bigint: true });
  const length = isDevice ? libc.deviceLength(fd) : Number(status.size);
  if (length < 0) {
    throw BlockError.system("ERR_NODE_OPEN", `measure '${options.filename}'`, -length, { node: options.filename });
  }
  const shared = new SharedArrayBuffer(SHARED_WORDS * 4);
  const words = new Int32Array(shared);
  storeSharedInteger(words, 0, length);
  words[READ_ONLY_WORD] = options.readOnly ? 1 : 0;
  const state: FileState = {
    fd,
    filename: options.filename,
    locked: options.locking === "on",
    deviceUnit: isDevice ? Math.max(DEVICE_UNIT, libc.deviceSectorSize(fd)) : 0,
    discard: options.discard === "unmap",
    shared,
  };
  return {
    driver,
    readOnly: options.readOnly,
    alignment: 1,
    clusterSize: 0,
    identity: identityOf(status),
    state,
    children: [],
  };
}

function closeFile(handle: NodeHandle): void {
  const { fd, filename, shared } = handle.state as FileState;
  const closedBefore = Atomics.exchange(new Int32Array(shared), CLOSED_WORD, 1);
  assert.equal(closedBefore, 0, `close '${filename}': it is closed already`); // a second close would hit somebody else's number
  const errno = libc.closeFile(fd);
  // The descriptor is gone; what the file system could not write back (NFS, quota) must not pass in silence.
  if (errno !== 0) throw BlockError.system("ERR_IO", `close '${filename}'`, errno, { node: filename });
}
