/** What queries say of nodes. */
import {
  bool,
  enumeration,
  int,
  list,
  type Members,
  optional,
  required,
  str,
  struct,
  type Struct,
  uint32,
} from "../schema/type.ts";
import { detectZeroes } from "./node-types.ts";

export const dirtyInfo: Struct = struct("BlockDirtyInfo", "a bitmap", {
  name: optional(str, "its name; a job's successor and copy set have none"),
  count: required(int, "bytes: dirty granules times granularity"),
  granularity: required(uint32, "bytes"),
  recording: required(bool, "it records: itself, or its successor for it"),
  busy: required(bool, "a job, an export or a fold has it"),
  persistent: required(bool, "it is stored with the node"),
  inconsistent: optional(bool, "it was not stored properly and can only be removed"),
});

const imageInfo: Struct = struct("ImageInfo", "the image of a node", {
  filename: required(str, "where it lies"),
  format: required(str, "the driver"),
  "dirty-flag": optional(bool, "it was not closed properly"),
  "actual-size": optional(int, "bytes that it takes"),
  "virtual-size": required(int, "bytes of the disk"),
  "cluster-size": optional(int, "bytes that the format allocates at once"),
  "backing-image": optional(() => imageInfo, "of a filter: what it stands on"),
});

const cacheInfo: Struct = struct("BlockdevCacheInfo", "how the node is cached", {
  writeback: required(bool, "writes are done before they are stable"),
  direct: required(bool, "passes the page cache by"),
  "no-flush": required(bool, "flushes are ignored"),
});

const limits: Members = Object.fromEntries(
  ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"].map((name) => [
    name,
    required(int, "0: throttling is a node of its own"),
  ]),
);

export const blockDeviceInfo: Struct = struct("BlockDeviceInfo", "a node", {
  file: required(str, "where it lies"),
  "node-name": optional(str, "its name"),
  ro: required(bool, "no changes"),
  drv: required(str, "the driver"),
  backing_file_depth: required(int, "0"),
  encrypted: required(bool, "false"),
  detect_zeroes: required(detectZeroes, "whether zeroes that are written are looked for"),
  ...limits,
  image: required(imageInfo, "the image"),
  cache: required(cacheInfo, "how it is cached"),
  write_threshold: required(int, "0"),
  "dirty-bitmaps": optional(list(dirtyInfo), "newest first"),
});

const count = required(int, "requests, bytes and times through this node since it was added");
const counters: Members = Object.fromEntries(
  `rd_bytes wr_bytes unmap_bytes rd_operations wr_operations flush_operations unmap_operations rd_total_time_ns
  wr_total_time_ns flush_total_time_ns unmap_total_time_ns wr_highest_offset rd_merged wr_merged unmap_merged
  failed_rd_operations failed_wr_operations failed_flush_operations failed_unmap_operations invalid_rd_operations
  invalid_wr_operations invalid_flush_operations invalid_unmap_operations`
    .trim()
    .split(/\s+/)
    .map((name) => [name, count]),
);

const timedStats: Struct = struct("BlockDeviceTimedStats", "never there", {
  interval_length: required(int, "seconds"),
});

export const blockStats: Struct = struct("BlockStats", "what a node has done", {
  device: optional(str, "never there"),
  qdev: optional(str, "never there"),
  "node-name": optional(str, "the node"),
  stats: required(
    struct("BlockDeviceStats", "counts", {
      ...counters,
      idle_time_ns: optional(int, "since the last request ended; not there before the first"),
      account_invalid: required(bool, "false: refused requests count as such, and nowhere else"),
      account_failed: required(bool, "true: the times have those of failed requests as well"),
      timed_stats: required(list(timedStats), "empty"),
    }),
    "counts",
  ),
  parent: optional(() => blockStats, "the node that it stands on"),
});

const ioStatus = enumeration("BlockDeviceIoStatus", ["ok", "failed", "nospace"], "why a job stopped by itself");

export const blockInfo: Struct = struct("BlockInfo", "a guest's device; there are none here", {
  device: required(str, "its name"),
  type: required(str, "its type"),
  removable: required(bool, "it can be removed"),
  locked: required(bool, "the guest has locked it"),
  inserted: optional(blockDeviceInfo, "the node in it"),
  "io-status": optional(ioStatus, "why it stopped"),
});
