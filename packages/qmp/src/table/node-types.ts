/** Block nodes as people describe them (`BlockdevOptions`), and as queries show them. */
import {
  alternate,
  any,
  bool,
  enumeration,
  type Alternate,
  type Enum,
  int,
  list,
  type Members,
  nullType,
  optional,
  required,
  str,
  struct,
  type Struct,
  uint32,
  uint64,
  type Union,
} from "../schema/type.ts";
import { socketAddress } from "./socket-types.ts";

export const driverNames: readonly string[] = [
  "blkdebug",
  "copy-before-write",
  "file",
  "host_device",
  "nbd",
  "null-aio",
  "null-co",
  "qcow2",
  "raw",
  "snapshot-access",
  "throttle",
];
export const blockdevDriver: Enum = enumeration("BlockdevDriver", driverNames, "drivers of block nodes");

export const detectZeroes: Enum = enumeration(
  "BlockdevDetectZeroesOptions",
  ["off", "on", "unmap"],
  "whether zeroes that are written are looked for",
);
const discard: Enum = enumeration("BlockdevDiscardOptions", ["ignore", "unmap"], "what discards do");

const cache: Struct = struct("BlockdevCacheOptions", "the host's page cache", {
  direct: optional(bool, "pass it by; taken and shown, files are read and written through it all the same"),
  "no-flush": optional(bool, "ignore flushes; taken and shown, flushes are never ignored"),
});

export const bitmapOfNode: Struct = struct("BlockDirtyBitmap", "a bitmap by node and name", {
  node: required(str, "name of the node"),
  name: required(str, "name of the bitmap"),
});

const common: Members = {
  driver: required(blockdevDriver, "the driver"),
  "node-name": optional(str, "name; required for the node that a command adds, made up for the nodes inside it"),
  discard: optional(discard, "`ignore` (default): discards are dropped before they count; `unmap`: they are done"),
  cache: optional(cache, "the host's page cache"),
  "read-only": optional(bool, "no changes (default false)"),
  "auto-read-only": optional(bool, "read-only where the image cannot be written (default false)"),
  "force-share": optional(bool, "read the image while others write it; needs read-only (default false)"),
  "detect-zeroes": optional(detectZeroes, "whether zeroes that are written are looked for (default off)"),
};

const onOffAuto: Enum = enumeration("OnOffAuto", ["auto", "on", "off"], "a switch");
const aio: Enum = enumeration("BlockdevAioOptions", ["threads", "native", "io_uring"], "how QEMU submits requests");

const file: Struct = struct("BlockdevOptionsFile", "a regular file or a block device", {
  filename: required(str, "path"),
  "pr-manager": optional(str, "refused"),
  locking: optional(onOffAuto, "image locks (default auto)"),
  aio: optional(aio, "taken; threads do what there is to do"),
  "aio-max-batch": optional(int, "taken, without effect"),
  "drop-cache": optional(bool, "taken, without effect"),
  "x-check-cache-dropped": optional(bool, "taken, without effect", ["unstable"]),
});

const nullOptions: Struct = struct("BlockdevOptionsNull", "a disk that holds nothing", {
  size: optional(int, "bytes (default 1 GiB)"),
  "latency-ns": optional(uint64, "nanoseconds that each request takes (default 0)"),
  "read-zeroes": optional(bool, "reads are zeroes (default false: they are anything)"),
});

const raw: Struct = struct("BlockdevOptionsRaw", "a window of another node", {
  file: required(() => blockdevRef, "the node"),
  offset: optional(int, "bytes (default 0)"),
  size: optional(int, "bytes (default: up to the end)"),
});

const throttle: Struct = struct("BlockdevOptionsThrottle", "limits over a node, shared with others of its group", {
  "throttle-group": required(str, "id of the object"),
  file: required(() => blockdevRef, "the node"),
});

export const blkdebugEvents: readonly string[] =
  `l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update l2_update_compressed
  l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio read_compressed write_aio write_compressed vmstate_load
  vmstate_save cow_read cow_write reftable_load reftable_grow reftable_update refblock_load refblock_update
  refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write refblock_alloc_write_blocks
  refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc cluster_alloc_bytes cluster_free flush_to_os
  flush_to_disk pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero
  pwritev_done empty_image_prepare l1_shrink_write_table l1_shrink_free_l2_clusters cor_write cluster_alloc_space none`
    .trim()
    .split(/\s+/);
const blkdebugEvent: Enum = enumeration(
  "BlkdebugEvent",
  blkdebugEvents,
  "what QEMU's drivers announce; `none` is any request",
);
const blkdebugIo: Enum = enumeration(
  "BlkdebugIOType",
  ["read", "write", "write-zeroes", "discard", "flush", "block-status"],
  "kinds of requests",
);
const permission: Enum = enumeration(
  "BlockPermission",
  ["consistent-read", "write", "write-unchanged", "resize"],
  "what a user of a node may do",
);
const injectError: Struct = struct("BlkdebugInjectErrorOptions", "a request that fails", {
  event: required(blkdebugEvent, "when"),
  state: optional(int, "only in this state"),
  iotype: optional(blkdebugIo, "only this kind (default: reads, writes, zeroes, discards and flushes)"),
  errno: optional(int, "the error (default 5, EIO)"),
  sector: optional(int, "only requests that touch this sector of 512 bytes"),
  once: optional(bool, "the first time only (default false)"),
  immediately: optional(bool, "taken, without effect"),
});
const setState: Struct = struct("BlkdebugSetStateOptions", "a change of state", {
  event: required(blkdebugEvent, "when"),
  state: optional(int, "only in this state"),
  new_state: required(int, "the state after it"),
});
const blkdebug: Struct = struct("BlockdevOptionsBlkdebug", "faults to test with", {
  image: required(() => blockdevRef, "the node"),
  config: optional(str, "refused: give the rules here"),
  align: optional(int, "taken, without effect"),
  "max-transfer": optional(int, "taken, without effect"),
  "opt-write-zero": optional(int, "taken, without effect"),
  "max-write-zero": optional(int, "taken, without effect"),
  "opt-discard": optional(int, "taken, without effect"),
  "max-discard": optional(int, "taken, without effect"),
  "inject-error": optional(list(injectError), "requests that fail"),
  "set-state": optional(list(setState), "changes of state"),
  "take-child-perms": optional(list(permission), "taken, without effect"),
  "unshare-child-perms": optional(list(permission), "taken, without effect"),
});

const nbd: Struct = struct("BlockdevOptionsNbd", "an export of another server", {
  server: required(socketAddress, "the server"),
  export: optional(str, "name of the export (default empty)"),
  "tls-creds": optional(str, "id of the credentials"),
  "tls-hostname": optional(str, "name that the server's certificate must have"),
  "x-dirty-bitmap": optional(str, "refused", ["unstable"]),
  "reconnect-delay": optional(uint32, "seconds that requests wait for a lost server (default 0)"),
  "open-timeout": optional(uint32, "seconds to try to connect (default 0: once)"),
});

const onCbwError: Enum = enumeration(
  "OnCbwError",
  ["break-guest-write", "break-snapshot"],
  "what gives way when old data cannot be kept",
);
const copyBeforeWrite: Struct = struct("BlockdevOptionsCbw", "a point in time of a node", {
  file: required(() => blockdevRef, "the node"),
  target: required(() => blockdevRef, "where old data goes"),
  bitmap: optional(bitmapOfNode, "limits the point in time to what it says"),
  "on-cbw-error": optional(onCbwError, "what gives way (default break-guest-write)"),
  "cbw-timeout": optional(uint32, "seconds that a guest's write waits at most; 0: no limit (default)"),
});
const snapshotAccess: Struct = struct(
  "BlockdevOptionsSnapshotAccess",
  "reads the point in time of a copy-before-write node",
  {
    file: required(() => blockdevRef, "the copy-before-write node"),
  },
);

/** Every option of QEMU's, so that the one answer is that the format is not there. */
const qcow2: Struct = struct("BlockdevOptionsQcow2", "refused: there is no qcow2 driver", {
  file: required(() => blockdevRef, "the image"),
  backing: optional(() => blockdevRefOrNull, "backing node"),
  "lazy-refcounts": optional(bool, "refused"),
  "pass-discard-request": optional(bool, "refused"),
  "pass-discard-snapshot": optional(bool, "refused"),
  "pass-discard-other": optional(bool, "refused"),
  "overlap-check": optional(any, "refused"),
  "cache-size": optional(int, "refused"),
  "l2-cache-size": optional(int, "refused"),
  "l2-cache-entry-size": optional(int, "refused"),
  "refcount-cache-size": optional(int, "refused"),
  "cache-clean-interval": optional(int, "refused"),
  encrypt: optional(any, "refused"),
  "data-file": optional(() => blockdevRef, "refused"),
});

export const blockdevOptions: Union = {
  kind: "union",
  name: "BlockdevOptions",
  doc: "a block node and what is inside it",
  members: common,
  tag: "driver",
  variants: {
    blkdebug: () => blkdebug,
    "copy-before-write": () => copyBeforeWrite,
    file: () => file,
    host_device: () => file,
    nbd: () => nbd,
    "null-aio": () => nullOptions,
    "null-co": () => nullOptions,
    qcow2: () => qcow2,
    raw: () => raw,
    "snapshot-access": () => snapshotAccess,
    throttle: () => throttle,
  },
};

const reference = alternate("BlockdevRef", "a node that is there, by name, or a new one", [
  () => blockdevOptions,
  () => str,
]);
export const blockdevRef: Alternate = reference;
const blockdevRefOrNull: Alternate = alternate("BlockdevRefOrNull", "a node, or none", [
  () => blockdevOptions,
  () => str,
  () => nullType,
]);
