/** Generated from the table of commands by testing/generate.mjs; a test compares. Do not edit. */

/** What a client can ask for. */
export type QMPCapability = "oob";

/** A version. */
export interface VersionInfo {
  /** The version of QEMU whose protocol this is. */
  readonly qemu: VersionTriple;
  /** What answers, and its own version. */
  readonly package: string;
}

/** Three numbers. */
export interface VersionTriple {
  /** First. */
  readonly major: number;
  /** Second. */
  readonly minor: number;
  /** Third. */
  readonly micro: number;
}

/** A command. */
export interface CommandInfo {
  /** Its name. */
  readonly name: string;
}

/** A command, an event or a type. */
export interface SchemaInfo {
  /** Its name; of types, a number that means nothing. */
  readonly name: string;
  /** What it is; further members depend on it. */
  readonly "meta-type": SchemaMetaType;
  /** Unstable, deprecated. */
  readonly features?: ReadonlyArray<string>;
  /** Of a builtin: its type in JSON. */
  readonly "json-type"?: string;
  /** Of an enum: its values. */
  readonly values?: ReadonlyArray<string>;
  /** Of an enum, an object or an alternate. */
  readonly members?: ReadonlyArray<unknown>;
  /** Of an array. */
  readonly "element-type"?: string;
  /** Of an object with variants: the member that says which. */
  readonly tag?: string;
  /** Of an object: more members. */
  readonly variants?: ReadonlyArray<unknown>;
  /** Of a command or an event. */
  readonly "arg-type"?: string;
  /** Of a command. */
  readonly "ret-type"?: string;
  /** Of a command: never. */
  readonly "allow-oob"?: boolean;
}

/** What it is. */
export type SchemaMetaType = "builtin" | "enum" | "array" | "object" | "alternate" | "command" | "event";

/** A block node and what is inside it. */
export type BlockdevOptions =
  | (BlockdevOptionsBase & { readonly driver: "blkdebug" } & BlockdevOptionsBlkdebug)
  | (BlockdevOptionsBase & { readonly driver: "copy-before-write" } & BlockdevOptionsCbw)
  | (BlockdevOptionsBase & { readonly driver: "file" } & BlockdevOptionsFile)
  | (BlockdevOptionsBase & { readonly driver: "host_device" } & BlockdevOptionsFile)
  | (BlockdevOptionsBase & { readonly driver: "nbd" } & BlockdevOptionsNbd)
  | (BlockdevOptionsBase & { readonly driver: "null-aio" } & BlockdevOptionsNull)
  | (BlockdevOptionsBase & { readonly driver: "null-co" } & BlockdevOptionsNull)
  | (BlockdevOptionsBase & { readonly driver: "qcow2" } & BlockdevOptionsQcow2)
  | (BlockdevOptionsBase & { readonly driver: "raw" } & BlockdevOptionsRaw)
  | (BlockdevOptionsBase & { readonly driver: "snapshot-access" } & BlockdevOptionsSnapshotAccess)
  | (BlockdevOptionsBase & { readonly driver: "throttle" } & BlockdevOptionsThrottle);

/** What discards do. */
export type BlockdevDiscardOptions = "ignore" | "unmap";

/** The host's page cache. */
export interface BlockdevCacheOptions {
  /** Pass it by; taken and shown, files are read and written through it all the same. */
  readonly direct?: boolean;
  /** Ignore flushes; taken and shown, flushes are never ignored. */
  readonly "no-flush"?: boolean;
}

/** Whether zeroes that are written are looked for. */
export type BlockdevDetectZeroesOptions = "off" | "on" | "unmap";

/** What every BlockdevOptions has. */
export interface BlockdevOptionsBase {
  /** Name; required for the node that a command adds, made up for the nodes inside it. */
  readonly "node-name"?: string;
  /** `ignore` (default): discards are dropped before they count; `unmap`: they are done. */
  readonly discard?: BlockdevDiscardOptions;
  /** The host's page cache. */
  readonly cache?: BlockdevCacheOptions;
  /** No changes (default false). */
  readonly "read-only"?: boolean;
  /** Read-only where the image cannot be written (default false). */
  readonly "auto-read-only"?: boolean;
  /** Read the image while others write it; needs read-only (default false). */
  readonly "force-share"?: boolean;
  /** Whether zeroes that are written are looked for (default off). */
  readonly "detect-zeroes"?: BlockdevDetectZeroesOptions;
}

/** Faults to test with. */
export interface BlockdevOptionsBlkdebug {
  /** The node. */
  readonly image: BlockdevRef;
  /** Refused: give the rules here. */
  readonly config?: string;
  /** Taken, without effect. */
  readonly align?: number;
  /** Taken, without effect. */
  readonly "max-transfer"?: number;
  /** Taken, without effect. */
  readonly "opt-write-zero"?: number;
  /** Taken, without effect. */
  readonly "max-write-zero"?: number;
  /** Taken, without effect. */
  readonly "opt-discard"?: number;
  /** Taken, without effect. */
  readonly "max-discard"?: number;
  /** Requests that fail. */
  readonly "inject-error"?: ReadonlyArray<BlkdebugInjectErrorOptions>;
  /** Changes of state. */
  readonly "set-state"?: ReadonlyArray<BlkdebugSetStateOptions>;
  /** Taken, without effect. */
  readonly "take-child-perms"?: ReadonlyArray<BlockPermission>;
  /** Taken, without effect. */
  readonly "unshare-child-perms"?: ReadonlyArray<BlockPermission>;
}

/** A node that is there, by name, or a new one. */
export type BlockdevRef = BlockdevOptions | string;

/** A request that fails. */
export interface BlkdebugInjectErrorOptions {
  /** When. */
  readonly event: BlkdebugEvent;
  /** Only in this state. */
  readonly state?: number;
  /** Only this kind (default: reads, writes, zeroes, discards and flushes). */
  readonly iotype?: BlkdebugIOType;
  /** The error (default 5, EIO). */
  readonly errno?: number;
  /** Only requests that touch this sector of 512 bytes. */
  readonly sector?: number;
  /** The first time only (default false). */
  readonly once?: boolean;
  /** Taken, without effect. */
  readonly immediately?: boolean;
}

/** What QEMU's drivers announce; `none` is any request. */
export type BlkdebugEvent = "l1_update" | "l1_grow_alloc_table" | "l1_grow_write_table" | "l1_grow_activate_table" | "l2_load" | "l2_update" | "l2_update_compressed" | "l2_alloc_cow_read" | "l2_alloc_write" | "read_aio" | "read_backing_aio" | "read_compressed" | "write_aio" | "write_compressed" | "vmstate_load" | "vmstate_save" | "cow_read" | "cow_write" | "reftable_load" | "reftable_grow" | "reftable_update" | "refblock_load" | "refblock_update" | "refblock_update_part" | "refblock_alloc" | "refblock_alloc_hookup" | "refblock_alloc_write" | "refblock_alloc_write_blocks" | "refblock_alloc_write_table" | "refblock_alloc_switch_table" | "cluster_alloc" | "cluster_alloc_bytes" | "cluster_free" | "flush_to_os" | "flush_to_disk" | "pwritev_rmw_head" | "pwritev_rmw_after_head" | "pwritev_rmw_tail" | "pwritev_rmw_after_tail" | "pwritev" | "pwritev_zero" | "pwritev_done" | "empty_image_prepare" | "l1_shrink_write_table" | "l1_shrink_free_l2_clusters" | "cor_write" | "cluster_alloc_space" | "none";

/** Kinds of requests. */
export type BlkdebugIOType = "read" | "write" | "write-zeroes" | "discard" | "flush" | "block-status";

/** A change of state. */
export interface BlkdebugSetStateOptions {
  /** When. */
  readonly event: BlkdebugEvent;
  /** Only in this state. */
  readonly state?: number;
  /** The state after it. */
  readonly new_state: number;
}

/** What a user of a node may do. */
export type BlockPermission = "consistent-read" | "write" | "write-unchanged" | "resize";

/** A point in time of a node. */
export interface BlockdevOptionsCbw {
  /** The node. */
  readonly file: BlockdevRef;
  /** Where old data goes. */
  readonly target: BlockdevRef;
  /** Limits the point in time to what it says. */
  readonly bitmap?: BlockDirtyBitmap;
  /** What gives way (default break-guest-write). */
  readonly "on-cbw-error"?: OnCbwError;
  /** Seconds that a guest's write waits at most; 0: no limit (default). */
  readonly "cbw-timeout"?: number;
}

/** A bitmap by node and name. */
export interface BlockDirtyBitmap {
  /** Name of the node. */
  readonly node: string;
  /** Name of the bitmap. */
  readonly name: string;
}

/** What gives way when old data cannot be kept. */
export type OnCbwError = "break-guest-write" | "break-snapshot";

/** A regular file or a block device. */
export interface BlockdevOptionsFile {
  /** Path. */
  readonly filename: string;
  /** Refused. */
  readonly "pr-manager"?: string;
  /** Image locks (default auto). */
  readonly locking?: OnOffAuto;
  /** Taken; threads do what there is to do. */
  readonly aio?: BlockdevAioOptions;
  /** Taken, without effect. */
  readonly "aio-max-batch"?: number;
  /** Taken, without effect. */
  readonly "drop-cache"?: boolean;
  /** Taken, without effect. */
  readonly "x-check-cache-dropped"?: boolean;
}

/** A switch. */
export type OnOffAuto = "auto" | "on" | "off";

/** How QEMU submits requests. */
export type BlockdevAioOptions = "threads" | "native" | "io_uring";

/** An export of another server. */
export interface BlockdevOptionsNbd {
  /** The server. */
  readonly server: SocketAddress;
  /** Name of the export (default empty). */
  readonly export?: string;
  /** Id of the credentials. */
  readonly "tls-creds"?: string;
  /** Name that the server's certificate must have. */
  readonly "tls-hostname"?: string;
  /** Refused. */
  readonly "x-dirty-bitmap"?: string;
  /** Seconds that requests wait for a lost server (default 0). */
  readonly "reconnect-delay"?: number;
  /** Seconds to try to connect (default 0: once). */
  readonly "open-timeout"?: number;
}

/** Address of a socket. */
export type SocketAddress =
  | (SocketAddressBase & { readonly type: "inet" } & InetSocketAddress)
  | (SocketAddressBase & { readonly type: "unix" } & UnixSocketAddress)
  | (SocketAddressBase & { readonly type: "vsock" } & VsockSocketAddress)
  | (SocketAddressBase & { readonly type: "fd" } & FdSocketAddress);

/** What every SocketAddress has. */
export interface SocketAddressBase {

}

/** TCP. */
export interface InetSocketAddress {
  /** Name or address. */
  readonly host: string;
  /** Number, as text. */
  readonly port: string;
  /** No names are looked up. */
  readonly numeric?: boolean;
  /** The first free port from `port` to this one is taken. */
  readonly to?: number;
  /** Use IPv4. */
  readonly ipv4?: boolean;
  /** Use IPv6. */
  readonly ipv6?: boolean;
  /** On outgoing connections. */
  readonly "keep-alive"?: boolean;
  /** Multipath TCP; refused. */
  readonly mptcp?: boolean;
}

/** Unix socket. */
export interface UnixSocketAddress {
  /** Path of the socket. */
  readonly path: string;
  /** In Linux's abstract namespace. */
  readonly abstract?: boolean;
  /** An abstract name is as long as its text (default). */
  readonly tight?: boolean;
}

/** Vsock; refused. */
export interface VsockSocketAddress {
  /** Unique host identifier. */
  readonly cid: string;
  /** Port. */
  readonly port: string;
}

/** A descriptor; refused. */
export interface FdSocketAddress {
  /** Its number or name. */
  readonly str: string;
}

/** A disk that holds nothing. */
export interface BlockdevOptionsNull {
  /** Bytes (default 1 GiB). */
  readonly size?: number;
  /** Nanoseconds that each request takes (default 0). */
  readonly "latency-ns"?: number;
  /** Reads are zeroes (default false: they are anything). */
  readonly "read-zeroes"?: boolean;
}

/** Refused: there is no qcow2 driver. */
export interface BlockdevOptionsQcow2 {
  /** The image. */
  readonly file: BlockdevRef;
  /** Backing node. */
  readonly backing?: BlockdevRefOrNull;
  /** Refused. */
  readonly "lazy-refcounts"?: boolean;
  /** Refused. */
  readonly "pass-discard-request"?: boolean;
  /** Refused. */
  readonly "pass-discard-snapshot"?: boolean;
  /** Refused. */
  readonly "pass-discard-other"?: boolean;
  /** Refused. */
  readonly "overlap-check"?: unknown;
  /** Refused. */
  readonly "cache-size"?: number;
  /** Refused. */
  readonly "l2-cache-size"?: number;
  /** Refused. */
  readonly "l2-cache-entry-size"?: number;
  /** Refused. */
  readonly "refcount-cache-size"?: number;
  /** Refused. */
  readonly "cache-clean-interval"?: number;
  /** Refused. */
  readonly encrypt?: unknown;
  /** Refused. */
  readonly "data-file"?: BlockdevRef;
}

/** A node, or none. */
export type BlockdevRefOrNull = BlockdevOptions | string | null;

/** A window of another node. */
export interface BlockdevOptionsRaw {
  /** The node. */
  readonly file: BlockdevRef;
  /** Bytes (default 0). */
  readonly offset?: number;
  /** Bytes (default: up to the end). */
  readonly size?: number;
}

/** Reads the point in time of a copy-before-write node. */
export interface BlockdevOptionsSnapshotAccess {
  /** The copy-before-write node. */
  readonly file: BlockdevRef;
}

/** Limits over a node, shared with others of its group. */
export interface BlockdevOptionsThrottle {
  /** Id of the object. */
  readonly "throttle-group": string;
  /** The node. */
  readonly file: BlockdevRef;
}

/** A new image. */
export type BlockdevCreateOptions =
  | (BlockdevCreateOptionsBase & { readonly driver: "blkdebug" })
  | (BlockdevCreateOptionsBase & { readonly driver: "copy-before-write" })
  | (BlockdevCreateOptionsBase & { readonly driver: "file" } & BlockdevCreateOptionsFile)
  | (BlockdevCreateOptionsBase & { readonly driver: "host_device" })
  | (BlockdevCreateOptionsBase & { readonly driver: "nbd" })
  | (BlockdevCreateOptionsBase & { readonly driver: "null-aio" })
  | (BlockdevCreateOptionsBase & { readonly driver: "null-co" })
  | (BlockdevCreateOptionsBase & { readonly driver: "qcow2" })
  | (BlockdevCreateOptionsBase & { readonly driver: "raw" })
  | (BlockdevCreateOptionsBase & { readonly driver: "snapshot-access" })
  | (BlockdevCreateOptionsBase & { readonly driver: "throttle" });

/** What every BlockdevCreateOptions has. */
export interface BlockdevCreateOptionsBase {

}

/** A new file. */
export interface BlockdevCreateOptionsFile {
  /** Path. */
  readonly filename: string;
  /** Bytes. */
  readonly size: number;
  /** Off (default); falloc and full are refused. */
  readonly preallocation?: PreallocMode;
  /** Taken, without effect. */
  readonly nocow?: boolean;
  /** Taken, without effect. */
  readonly "extent-size-hint"?: number;
}

/** Room taken at once. */
export type PreallocMode = "off" | "metadata" | "falloc" | "full";

/** A node. */
export interface BlockDeviceInfo {
  /** Where it lies. */
  readonly file: string;
  /** Its name. */
  readonly "node-name"?: string;
  /** No changes. */
  readonly ro: boolean;
  /** The driver. */
  readonly drv: string;
  /** 0. */
  readonly backing_file_depth: number;
  /** False. */
  readonly encrypted: boolean;
  /** Whether zeroes that are written are looked for. */
  readonly detect_zeroes: BlockdevDetectZeroesOptions;
  /** 0: throttling is a node of its own. */
  readonly bps: number;
  /** 0: throttling is a node of its own. */
  readonly bps_rd: number;
  /** 0: throttling is a node of its own. */
  readonly bps_wr: number;
  /** 0: throttling is a node of its own. */
  readonly iops: number;
  /** 0: throttling is a node of its own. */
  readonly iops_rd: number;
  /** 0: throttling is a node of its own. */
  readonly iops_wr: number;
  /** The image. */
  readonly image: ImageInfo;
  /** How it is cached. */
  readonly cache: BlockdevCacheInfo;
  /** 0. */
  readonly write_threshold: number;
  /** Newest first. */
  readonly "dirty-bitmaps"?: ReadonlyArray<BlockDirtyInfo>;
}

/** The image of a node. */
export interface ImageInfo {
  /** Where it lies. */
  readonly filename: string;
  /** The driver. */
  readonly format: string;
  /** It was not closed properly. */
  readonly "dirty-flag"?: boolean;
  /** Bytes that it takes. */
  readonly "actual-size"?: number;
  /** Bytes of the disk. */
  readonly "virtual-size": number;
  /** Bytes that the format allocates at once. */
  readonly "cluster-size"?: number;
  /** Of a filter: what it stands on. */
  readonly "backing-image"?: ImageInfo;
}

/** How the node is cached. */
export interface BlockdevCacheInfo {
  /** Writes are done before they are stable. */
  readonly writeback: boolean;
  /** Passes the page cache by. */
  readonly direct: boolean;
  /** Flushes are ignored. */
  readonly "no-flush": boolean;
}

/** A bitmap. */
export interface BlockDirtyInfo {
  /** Its name; a job's successor and copy set have none. */
  readonly name?: string;
  /** Bytes: dirty granules times granularity. */
  readonly count: number;
  /** Bytes. */
  readonly granularity: number;
  /** It records: itself, or its successor for it. */
  readonly recording: boolean;
  /** A job, an export or a fold has it. */
  readonly busy: boolean;
  /** It is stored with the node. */
  readonly persistent: boolean;
  /** It was not stored properly and can only be removed. */
  readonly inconsistent?: boolean;
}

/** A guest's device; there are none here. */
export interface BlockInfo {
  /** Its name. */
  readonly device: string;
  /** Its type. */
  readonly type: string;
  /** It can be removed. */
  readonly removable: boolean;
  /** The guest has locked it. */
  readonly locked: boolean;
  /** The node in it. */
  readonly inserted?: BlockDeviceInfo;
  /** Why it stopped. */
  readonly "io-status"?: BlockDeviceIoStatus;
}

/** Why a job stopped by itself. */
export type BlockDeviceIoStatus = "ok" | "failed" | "nospace";

/** What a node has done. */
export interface BlockStats {
  /** Never there. */
  readonly device?: string;
  /** Never there. */
  readonly qdev?: string;
  /** The node. */
  readonly "node-name"?: string;
  /** Counts. */
  readonly stats: BlockDeviceStats;
  /** The node that it stands on. */
  readonly parent?: BlockStats;
}

/** Counts. */
export interface BlockDeviceStats {
  /** Requests, bytes and times through this node since it was added. */
  readonly rd_bytes: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly wr_bytes: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly unmap_bytes: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly rd_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly wr_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly flush_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly unmap_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly rd_total_time_ns: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly wr_total_time_ns: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly flush_total_time_ns: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly unmap_total_time_ns: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly wr_highest_offset: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly rd_merged: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly wr_merged: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly unmap_merged: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly failed_rd_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly failed_wr_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly failed_flush_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly failed_unmap_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly invalid_rd_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly invalid_wr_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly invalid_flush_operations: number;
  /** Requests, bytes and times through this node since it was added. */
  readonly invalid_unmap_operations: number;
  /** Since the last request ended; not there before the first. */
  readonly idle_time_ns?: number;
  /** False: refused requests count as such, and nowhere else. */
  readonly account_invalid: boolean;
  /** True: the times have those of failed requests as well. */
  readonly account_failed: boolean;
  /** Empty. */
  readonly timed_stats: ReadonlyArray<BlockDeviceTimedStats>;
}

/** Never there. */
export interface BlockDeviceTimedStats {
  /** Seconds. */
  readonly interval_length: number;
}

/** A new bitmap. */
export interface BlockDirtyBitmapAdd {
  /** Name of the node. */
  readonly node: string;
  /** Name of the bitmap, 1 to 1023 bytes. */
  readonly name: string;
  /** Bytes, a power of two from 512 (default: the node's cluster size, else 64 KiB). */
  readonly granularity?: number;
  /** Store it with the node (default false). */
  readonly persistent?: boolean;
  /** Does not record until it is enabled (default false). */
  readonly disabled?: boolean;
}

/** Bitmaps to join into another. */
export interface BlockDirtyBitmapMerge {
  /** Name of the target's node. */
  readonly node: string;
  /** The bitmap that they are joined into. */
  readonly target: string;
  /** The bitmaps. */
  readonly bitmaps: ReadonlyArray<BlockDirtyBitmapOrStr>;
}

/** A bitmap of the same node by name, or of any node. */
export type BlockDirtyBitmapOrStr = string | BlockDirtyBitmap;

/** A checksum. */
export interface BlockDirtyBitmapSha256 {
  /** In hexadecimal digits. */
  readonly sha256: string;
}

/** A backup to a node. */
export interface BlockdevBackup {
  /** Id of the job; required, as nodes here are no devices. */
  readonly "job-id"?: string;
  /** The node to back up. */
  readonly device: string;
  /** What is copied. */
  readonly sync: MirrorSyncMode;
  /** Bytes a second; 0: unlimited (default). */
  readonly speed?: number;
  /** A bitmap of the node. */
  readonly bitmap?: string;
  /** What becomes of the bitmap; incremental implies on-success. */
  readonly "bitmap-mode"?: BitmapSyncMode;
  /** Write compressed clusters (default false); no target here can. */
  readonly compress?: boolean;
  /** An error of the node (default report). */
  readonly "on-source-error"?: BlockdevOnError;
  /** An error of the target (default report). */
  readonly "on-target-error"?: BlockdevOnError;
  /** What gives way when old data cannot be kept (default break-snapshot: the job fails and the guest does not notice). */
  readonly "on-cbw-error"?: OnCbwError;
  /** Seconds that a guest's write waits for old data to be kept; 0: no limit (default). */
  readonly "cbw-timeout"?: number;
  /** The job ends by itself (default true). */
  readonly "auto-finalize"?: boolean;
  /** The job goes when it has ended (default true). */
  readonly "auto-dismiss"?: boolean;
  /** A name for the job as a node: to look it up, to export it, to read its point in time. */
  readonly "filter-node-name"?: string;
  /** Discard what was copied (default false); only of a snapshot-access node. */
  readonly "discard-source"?: boolean;
  /** How the copying is done. */
  readonly "x-perf"?: BackupPerf;
  /** Ours alone: the job goes on after a restart, once job-resume finds its target (default false); needs a persistent bitmap. */
  readonly resumable?: boolean;
  /** Ours alone, with resumable: after every power loss too, for a sync at a guest's first write to each cluster (default false). */
  readonly "sync-spill"?: boolean;
  /** The node to write to. */
  readonly target: string;
}

/** What is copied. */
export type MirrorSyncMode = "top" | "full" | "none" | "incremental" | "bitmap";

/** What becomes of the bitmap when the job ends. */
export type BitmapSyncMode = "on-success" | "never" | "always";

/** What an I/O error does to a job. */
export type BlockdevOnError = "report" | "ignore" | "enospc" | "stop" | "auto";

/** How the copying is done. */
export interface BackupPerf {
  /** Taken; files are copied by the kernel wherever that is possible. */
  readonly "use-copy-range"?: boolean;
  /** Threads at most (default 64); there are never more than are useful. */
  readonly "max-workers"?: number;
  /** Bytes of a transfer at most, at least a cluster; 0: no limit (default). */
  readonly "max-chunk"?: number;
  /** Bytes, a power of two: raises the job's cluster. */
  readonly "min-cluster-size"?: number;
}

/** A backup to a file. */
export interface DriveBackup {
  /** Id of the job; required, as nodes here are no devices. */
  readonly "job-id"?: string;
  /** The node to back up. */
  readonly device: string;
  /** What is copied. */
  readonly sync: MirrorSyncMode;
  /** Bytes a second; 0: unlimited (default). */
  readonly speed?: number;
  /** A bitmap of the node. */
  readonly bitmap?: string;
  /** What becomes of the bitmap; incremental implies on-success. */
  readonly "bitmap-mode"?: BitmapSyncMode;
  /** Write compressed clusters (default false); no target here can. */
  readonly compress?: boolean;
  /** An error of the node (default report). */
  readonly "on-source-error"?: BlockdevOnError;
  /** An error of the target (default report). */
  readonly "on-target-error"?: BlockdevOnError;
  /** What gives way when old data cannot be kept (default break-snapshot: the job fails and the guest does not notice). */
  readonly "on-cbw-error"?: OnCbwError;
  /** Seconds that a guest's write waits for old data to be kept; 0: no limit (default). */
  readonly "cbw-timeout"?: number;
  /** The job ends by itself (default true). */
  readonly "auto-finalize"?: boolean;
  /** The job goes when it has ended (default true). */
  readonly "auto-dismiss"?: boolean;
  /** A name for the job as a node: to look it up, to export it, to read its point in time. */
  readonly "filter-node-name"?: string;
  /** Discard what was copied (default false); only of a snapshot-access node. */
  readonly "discard-source"?: boolean;
  /** How the copying is done. */
  readonly "x-perf"?: BackupPerf;
  /** Ours alone: the job goes on after a restart, once job-resume finds its target (default false); needs a persistent bitmap. */
  readonly resumable?: boolean;
  /** Ours alone, with resumable: after every power loss too, for a sync at a guest's first write to each cluster (default false). */
  readonly "sync-spill"?: boolean;
  /** Path of the file. */
  readonly target: string;
  /** Raw (default); others are refused. */
  readonly format?: string;
  /** Absolute-paths (default): the file is made anew. */
  readonly mode?: NewImageMode;
}

/** Whether the file is there. */
export type NewImageMode = "existing" | "absolute-paths";

/** One action of a transaction. */
export type TransactionAction =
  | (TransactionActionBase & { readonly type: "abort" } & AbortWrapper)
  | (TransactionActionBase & { readonly type: "block-dirty-bitmap-add" } & BlockDirtyBitmapAddWrapper)
  | (TransactionActionBase & { readonly type: "block-dirty-bitmap-remove" } & BlockDirtyBitmapWrapper)
  | (TransactionActionBase & { readonly type: "block-dirty-bitmap-clear" } & BlockDirtyBitmapWrapper)
  | (TransactionActionBase & { readonly type: "block-dirty-bitmap-enable" } & BlockDirtyBitmapWrapper)
  | (TransactionActionBase & { readonly type: "block-dirty-bitmap-disable" } & BlockDirtyBitmapWrapper)
  | (TransactionActionBase & { readonly type: "block-dirty-bitmap-merge" } & BlockDirtyBitmapMergeWrapper)
  | (TransactionActionBase & { readonly type: "blockdev-backup" } & BlockdevBackupWrapper)
  | (TransactionActionBase & { readonly type: "drive-backup" } & DriveBackupWrapper);

/** What every TransactionAction has. */
export interface TransactionActionBase {

}

/** Fails: for tests. */
export interface AbortWrapper {
  /** Arguments of the command of this name. */
  readonly data: Abort;
}

/** No members. */
export interface Abort {

}

/** Adds a bitmap. */
export interface BlockDirtyBitmapAddWrapper {
  /** Arguments of the command of this name. */
  readonly data: BlockDirtyBitmapAdd;
}

/** Removes a bitmap, when all actions are planned. */
export interface BlockDirtyBitmapWrapper {
  /** Arguments of the command of this name. */
  readonly data: BlockDirtyBitmap;
}

/** Joins bitmaps. */
export interface BlockDirtyBitmapMergeWrapper {
  /** Arguments of the command of this name. */
  readonly data: BlockDirtyBitmapMerge;
}

/** Starts a backup. */
export interface BlockdevBackupWrapper {
  /** Arguments of the command of this name. */
  readonly data: BlockdevBackup;
}

/** Starts a backup to a file. */
export interface DriveBackupWrapper {
  /** Arguments of the command of this name. */
  readonly data: DriveBackup;
}

/** How the actions hang together. */
export interface TransactionProperties {
  /** Grouped: all jobs succeed at one instant, or none does (default individual). */
  readonly "completion-mode"?: ActionCompletionMode;
}

/** Whether jobs end together. */
export type ActionCompletionMode = "individual" | "grouped";

/** A job. */
export interface JobInfo {
  /** Its id. */
  readonly id: string;
  /** What it does. */
  readonly type: JobType;
  /** Where it stands. */
  readonly status: JobStatus;
  /** Bytes done. */
  readonly "current-progress": number;
  /** Bytes in all, as known now. */
  readonly "total-progress": number;
  /** Why it failed. */
  readonly error?: string;
}

/** Kinds of jobs; here there are backup and create. */
export type JobType = "commit" | "stream" | "mirror" | "backup" | "create" | "amend" | "snapshot-load" | "snapshot-save" | "snapshot-delete";

/** Where a job stands. */
export type JobStatus = "undefined" | "created" | "running" | "paused" | "ready" | "standby" | "waiting" | "pending" | "aborting" | "concluded" | "null";

/** A backup job. */
export interface BlockJobInfo {
  /** Backup. */
  readonly type: string;
  /** Its id. */
  readonly device: string;
  /** Bytes in all, as known now. */
  readonly len: number;
  /** Bytes done. */
  readonly offset: number;
  /** It is at work. */
  readonly busy: boolean;
  /** A user, or an error, has paused it. */
  readonly paused: boolean;
  /** Bytes a second; 0: unlimited. */
  readonly speed: number;
  /** Why it stopped by itself. */
  readonly "io-status": BlockDeviceIoStatus;
  /** False. */
  readonly ready: boolean;
  /** Where it stands. */
  readonly status: JobStatus;
  /** It ends by itself. */
  readonly "auto-finalize": boolean;
  /** It goes when it has ended. */
  readonly "auto-dismiss": boolean;
  /** Why it failed. */
  readonly error?: string;
}

/** Address of a socket, with a level more. */
export type SocketAddressLegacy =
  | (SocketAddressLegacyBase & { readonly type: "inet" } & InetSocketAddressWrapper)
  | (SocketAddressLegacyBase & { readonly type: "unix" } & UnixSocketAddressWrapper)
  | (SocketAddressLegacyBase & { readonly type: "vsock" } & VsockSocketAddressWrapper)
  | (SocketAddressLegacyBase & { readonly type: "fd" } & FdSocketAddressWrapper);

/** What every SocketAddressLegacy has. */
export interface SocketAddressLegacyBase {

}

/** TCP. */
export interface InetSocketAddressWrapper {
  /** The address. */
  readonly data: InetSocketAddress;
}

/** Unix socket. */
export interface UnixSocketAddressWrapper {
  /** The address. */
  readonly data: UnixSocketAddress;
}

/** Vsock; refused. */
export interface VsockSocketAddressWrapper {
  /** The address. */
  readonly data: VsockSocketAddress;
}

/** A descriptor; refused. */
export interface FdSocketAddressWrapper {
  /** The address. */
  readonly data: FdSocketAddress;
}

/** What becomes of connections. */
export type BlockExportRemoveMode = "safe" | "hard";

/** An export. */
export type BlockExportOptions =
  | (BlockExportOptionsBase & { readonly type: "nbd" } & BlockExportOptionsNbd);

/** What every BlockExportOptions has. */
export interface BlockExportOptionsBase {
  /** Its id. */
  readonly id: string;
  /** Taken, without effect. */
  readonly "fixed-iothread"?: boolean;
  /** Id of an iothread; taken, without effect. */
  readonly iothread?: string;
  /** The node. */
  readonly "node-name": string;
  /** Clients may write (default false). */
  readonly writable?: boolean;
  /** Each write is flushed (default false). */
  readonly writethrough?: boolean;
}

/** An NBD export. */
export interface BlockExportOptionsNbd {
  /** Its name (default: that of the node). */
  readonly name?: string;
  /** Text for people. */
  readonly description?: string;
  /** Bitmaps that clients can read as metadata contexts. */
  readonly bitmaps?: ReadonlyArray<BlockDirtyBitmapOrStr>;
  /** Offers the context qemu:allocation-depth (default false). */
  readonly "allocation-depth"?: boolean;
}

/** An export. */
export interface BlockExportInfo {
  /** Its id. */
  readonly id: string;
  /** Nbd. */
  readonly type: BlockExportType;
  /** The node. */
  readonly "node-name": string;
  /** It is being taken away. */
  readonly "shutting-down": boolean;
}

/** Kinds of exports. */
export type BlockExportType = "nbd";

/** An object. */
export type ObjectOptions =
  | (ObjectOptionsBase & { readonly "qom-type": "iothread" } & IothreadProperties)
  | (ObjectOptionsBase & { readonly "qom-type": "secret" } & SecretProperties)
  | (ObjectOptionsBase & { readonly "qom-type": "throttle-group" } & ThrottleGroupProperties)
  | (ObjectOptionsBase & { readonly "qom-type": "tls-creds-psk" } & TlsCredsPskProperties)
  | (ObjectOptionsBase & { readonly "qom-type": "tls-creds-x509" } & TlsCredsX509Properties);

/** What every ObjectOptions has. */
export interface ObjectOptionsBase {
  /** Its id. */
  readonly id: string;
}

/** A thread, for command lines that give one: here threads come with work, whatever is asked for. */
export interface IothreadProperties {
  /** Taken, without effect. */
  readonly "poll-max-ns"?: number;
  /** Taken, without effect. */
  readonly "poll-grow"?: number;
  /** Taken, without effect. */
  readonly "poll-shrink"?: number;
  /** Taken, without effect. */
  readonly "aio-max-batch"?: number;
  /** Taken, without effect. */
  readonly "thread-pool-min"?: number;
  /** Taken, without effect. */
  readonly "thread-pool-max"?: number;
}

/** A secret. */
export interface SecretProperties {
  /** Taken, without effect. */
  readonly loaded?: boolean;
  /** Raw (default) or base64. */
  readonly format?: QCryptoSecretFormat;
  /** Refused. */
  readonly keyid?: string;
  /** Refused. */
  readonly iv?: string;
  /** The secret. */
  readonly data?: string;
  /** A file that holds it. */
  readonly file?: string;
}

/** How data is written. */
export type QCryptoSecretFormat = "raw" | "base64";

/** Limits that nodes share. */
export interface ThrottleGroupProperties {
  /** The limits. */
  readonly limits?: ThrottleLimits;
  /** Requests a second; 0: no limit. */
  readonly "x-iops-total"?: number;
  /** Requests a second in bursts. */
  readonly "x-iops-total-max"?: number;
  /** Seconds that a burst may last. */
  readonly "x-iops-total-max-length"?: number;
  /** Requests a second; 0: no limit. */
  readonly "x-iops-read"?: number;
  /** Requests a second in bursts. */
  readonly "x-iops-read-max"?: number;
  /** Seconds that a burst may last. */
  readonly "x-iops-read-max-length"?: number;
  /** Requests a second; 0: no limit. */
  readonly "x-iops-write"?: number;
  /** Requests a second in bursts. */
  readonly "x-iops-write-max"?: number;
  /** Seconds that a burst may last. */
  readonly "x-iops-write-max-length"?: number;
  /** Bytes a second; 0: no limit. */
  readonly "x-bps-total"?: number;
  /** Bytes a second in bursts. */
  readonly "x-bps-total-max"?: number;
  /** Seconds that a burst may last. */
  readonly "x-bps-total-max-length"?: number;
  /** Bytes a second; 0: no limit. */
  readonly "x-bps-read"?: number;
  /** Bytes a second in bursts. */
  readonly "x-bps-read-max"?: number;
  /** Seconds that a burst may last. */
  readonly "x-bps-read-max-length"?: number;
  /** Bytes a second; 0: no limit. */
  readonly "x-bps-write"?: number;
  /** Bytes a second in bursts. */
  readonly "x-bps-write-max"?: number;
  /** Seconds that a burst may last. */
  readonly "x-bps-write-max-length"?: number;
  /** Bytes that count as one request; 0: each request counts once. */
  readonly "x-iops-size"?: number;
}

/** Limits. */
export interface ThrottleLimits {
  /** Requests a second; 0: no limit. */
  readonly "iops-total"?: number;
  /** Requests a second in bursts. */
  readonly "iops-total-max"?: number;
  /** Seconds that a burst may last. */
  readonly "iops-total-max-length"?: number;
  /** Requests a second; 0: no limit. */
  readonly "iops-read"?: number;
  /** Requests a second in bursts. */
  readonly "iops-read-max"?: number;
  /** Seconds that a burst may last. */
  readonly "iops-read-max-length"?: number;
  /** Requests a second; 0: no limit. */
  readonly "iops-write"?: number;
  /** Requests a second in bursts. */
  readonly "iops-write-max"?: number;
  /** Seconds that a burst may last. */
  readonly "iops-write-max-length"?: number;
  /** Bytes a second; 0: no limit. */
  readonly "bps-total"?: number;
  /** Bytes a second in bursts. */
  readonly "bps-total-max"?: number;
  /** Seconds that a burst may last. */
  readonly "bps-total-max-length"?: number;
  /** Bytes a second; 0: no limit. */
  readonly "bps-read"?: number;
  /** Bytes a second in bursts. */
  readonly "bps-read-max"?: number;
  /** Seconds that a burst may last. */
  readonly "bps-read-max-length"?: number;
  /** Bytes a second; 0: no limit. */
  readonly "bps-write"?: number;
  /** Bytes a second in bursts. */
  readonly "bps-write-max"?: number;
  /** Seconds that a burst may last. */
  readonly "bps-write-max-length"?: number;
  /** Bytes that count as one request; 0: each request counts once. */
  readonly "iops-size"?: number;
}

/** Keys shared beforehand. */
export interface TlsCredsPskProperties {
  /** The other side must prove who it is (default true). */
  readonly "verify-peer"?: boolean;
  /** Directory with the files. */
  readonly dir?: string;
  /** Client (default) or server. */
  readonly endpoint?: QCryptoTLSCredsEndpoint;
  /** Refused: Node's TLS has no GnuTLS priorities. */
  readonly priority?: string;
  /** Taken, without effect. */
  readonly loaded?: boolean;
  /** Whose key a client takes (default qemu). */
  readonly username?: string;
}

/** Side of a connection. */
export type QCryptoTLSCredsEndpoint = "client" | "server";

/** Certificates. */
export interface TlsCredsX509Properties {
  /** The other side must prove who it is (default true). */
  readonly "verify-peer"?: boolean;
  /** Directory with the files. */
  readonly dir?: string;
  /** Client (default) or server. */
  readonly endpoint?: QCryptoTLSCredsEndpoint;
  /** Refused: Node's TLS has no GnuTLS priorities. */
  readonly priority?: string;
  /** Taken, without effect. */
  readonly loaded?: boolean;
  /** Taken, without effect. */
  readonly "sanity-check"?: boolean;
  /** Id of the secret that opens the key. */
  readonly passwordid?: string;
}

/** A property. */
export interface ObjectPropertyInfo {
  /** Its name. */
  readonly name: string;
  /** Its type. */
  readonly type: string;
  /** What it is. */
  readonly description?: string;
  /** Its default. */
  readonly "default-value"?: unknown;
}

/** A character device. */
export interface ChardevInfo {
  /** Its id. */
  readonly label: string;
  /** Where it is. */
  readonly filename: string;
  /** A monitor has it. */
  readonly "frontend-open": boolean;
}

/** What a character device is. */
export type ChardevBackend =
  | (ChardevBackendBase & { readonly type: "socket" } & ChardevSocketWrapper)
  | (ChardevBackendBase & { readonly type: "null" } & ChardevCommonWrapper)
  | (ChardevBackendBase & { readonly type: "stdio" } & ChardevStdioWrapper);

/** What every ChardevBackend has. */
export interface ChardevBackendBase {

}

/** A socket. */
export interface ChardevSocketWrapper {
  /** Options. */
  readonly data: ChardevSocket;
}

/** A socket. */
export interface ChardevSocket {
  /** Refused. */
  readonly logfile?: string;
  /** Refused. */
  readonly logappend?: boolean;
  /** The address. */
  readonly addr: SocketAddressLegacy;
  /** Refused. */
  readonly "tls-creds"?: string;
  /** Refused. */
  readonly "tls-authz"?: string;
  /** It listens (default true); connecting is refused. */
  readonly server?: boolean;
  /** Wait for a client before going on (default false); refused when true. */
  readonly wait?: boolean;
  /** Taken, without effect. */
  readonly nodelay?: boolean;
  /** Refused when true. */
  readonly telnet?: boolean;
  /** Refused when true. */
  readonly tn3270?: boolean;
  /** Refused when true. */
  readonly websocket?: boolean;
  /** Refused. */
  readonly reconnect?: number;
}

/** Nothing. */
export interface ChardevCommonWrapper {
  /** Options. */
  readonly data: ChardevCommon;
}

/** Nothing. */
export interface ChardevCommon {
  /** Refused. */
  readonly logfile?: string;
  /** Refused. */
  readonly logappend?: boolean;
}

/** Standard input and output. */
export interface ChardevStdioWrapper {
  /** Options. */
  readonly data: ChardevStdio;
}

/** Standard input and output. */
export interface ChardevStdio {
  /** Refused. */
  readonly logfile?: string;
  /** Refused. */
  readonly logappend?: boolean;
  /** Taken, without effect. */
  readonly signal?: boolean;
}

/** Nothing. */
export interface ChardevReturn {
  /** Never there. */
  readonly pty?: string;
}

/** A state machine that runs, or has run. */
export interface HeirloomActor {
  /** What it stands for. */
  readonly kind: HeirloomActorKind;
  /** Of the disk, bitmap, job, group, export or transaction. */
  readonly name: string;
  /** The node that it belongs to. */
  readonly node?: string;
  /** Its state. */
  readonly state: string;
  /** It is over, and kept to be asked about. */
  readonly ended: boolean;
  /** Of a job: why it copies what it copies. */
  readonly because?: string;
  /** Of a job: where it writes. */
  readonly target?: string;
  /** Of a job: the bitmap that it has. */
  readonly bitmap?: string;
  /** Of a job: its mode. */
  readonly sync?: string;
  /** Of a job: what becomes of its bitmap. */
  readonly "bitmap-mode"?: string;
  /** Of a resumable job that was cut off. */
  readonly waits?: HeirloomWait;
  /** What the machine keeps besides; its members are not promised. */
  readonly context: unknown;
  /** The last changes, oldest first. */
  readonly history: ReadonlyArray<HeirloomTransition>;
}

/** What an actor stands for. */
export type HeirloomActorKind = "disk" | "bitmap" | "job" | "group" | "export" | "transaction" | "pool";

/** What a resumable job that was cut off waits for. */
export interface HeirloomWait {
  /** What its target was called: a path, or the name of a node. */
  readonly target: string;
  /** Its point in time, milliseconds since the epoch. */
  readonly "frozen-at": number;
  /** It is reclaimed then, milliseconds since the epoch. */
  readonly until: number;
}

/** A change of state. */
export interface HeirloomTransition {
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** What happened; `init` is the beginning. */
  readonly event: string;
  /** State before; empty at the beginning. */
  readonly from: string;
  /** State after. */
  readonly to: string;
  /** Why, or for whom. */
  readonly reason?: string;
}

/** Kinds of I/O. */
export type IoOperationType = "read" | "write";

/** What an error does. */
export type BlockErrorAction = "ignore" | "report" | "stop";

export interface QmpCommands {
  /** Ends the negotiation: the first command of a connection. */
  readonly qmp_capabilities: { readonly arguments: {
  /** Capabilities to use. */
  readonly enable?: ReadonlyArray<QMPCapability>;
}; readonly result: Readonly<Record<string, never>> };
  /** Who answers. */
  readonly "query-version": { readonly arguments: Readonly<Record<string, never>>; readonly result: VersionInfo };
  /** Commands that there are. */
  readonly "query-commands": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<CommandInfo> };
  /** Commands, events and their types, for programs. */
  readonly "query-qmp-schema": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<SchemaInfo> };
  /** Ends the daemon: jobs are cancelled, exports and nodes closed. */
  readonly quit: { readonly arguments: Readonly<Record<string, never>>; readonly result: Readonly<Record<string, never>> };
  /** Opens a node and what is inside it. */
  readonly "blockdev-add": { readonly arguments: BlockdevOptions; readonly result: Readonly<Record<string, never>> };
  /** Closes a node that nobody uses, and what was opened inside it. */
  readonly "blockdev-del": { readonly arguments: {
  /** The node. */
  readonly "node-name": string;
}; readonly result: Readonly<Record<string, never>> };
  /** Changes options of nodes, all or none. Every option must be given; what cannot be changed must be as it was. */
  readonly "blockdev-reopen": { readonly arguments: {
  /** The nodes, each with its node-name. */
  readonly options: ReadonlyArray<BlockdevOptions>;
}; readonly result: Readonly<Record<string, never>> };
  /** Makes an image, as a job that stays until it is dismissed. What goes wrong is the job's error. */
  readonly "blockdev-create": { readonly arguments: {
  /** Id of the job. */
  readonly "job-id": string;
  /** The image. */
  readonly options: BlockdevCreateOptions;
}; readonly result: Readonly<Record<string, never>> };
  /** All nodes, newest first. */
  readonly "query-named-block-nodes": { readonly arguments: {
  /** Leave backing images out (default false); nodes have none here. */
  readonly flat?: boolean;
}; readonly result: ReadonlyArray<BlockDeviceInfo> };
  /** Guest devices: none in a storage daemon. */
  readonly "query-block": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<BlockInfo> };
  /** What nodes have done. */
  readonly "query-blockstats": { readonly arguments: {
  /** Nodes, and not guest devices (default false). */
  readonly "query-nodes"?: boolean;
}; readonly result: ReadonlyArray<BlockStats> };
  /** Changes the length of a node. Its bitmaps follow: new space is clean. */
  readonly block_resize: { readonly arguments: {
  /** A device or a node. */
  readonly device?: string;
  /** A node. */
  readonly "node-name"?: string;
  /** Bytes. */
  readonly size: number;
}; readonly result: Readonly<Record<string, never>> };
  /** Adds a bitmap. It says what changes from now on. */
  readonly "block-dirty-bitmap-add": { readonly arguments: BlockDirtyBitmapAdd; readonly result: Readonly<Record<string, never>> };
  /** Removes a bitmap that nobody uses. */
  readonly "block-dirty-bitmap-remove": { readonly arguments: BlockDirtyBitmap; readonly result: Readonly<Record<string, never>> };
  /** Forgets what a bitmap says. */
  readonly "block-dirty-bitmap-clear": { readonly arguments: BlockDirtyBitmap; readonly result: Readonly<Record<string, never>> };
  /** The bitmap records from now on. */
  readonly "block-dirty-bitmap-enable": { readonly arguments: BlockDirtyBitmap; readonly result: Readonly<Record<string, never>> };
  /** The bitmap does not record from now on, and keeps what it says. */
  readonly "block-dirty-bitmap-disable": { readonly arguments: BlockDirtyBitmap; readonly result: Readonly<Record<string, never>> };
  /** Joins what bitmaps say into another, all or none. Granularities may differ, lengths may not. */
  readonly "block-dirty-bitmap-merge": { readonly arguments: BlockDirtyBitmapMerge; readonly result: Readonly<Record<string, never>> };
  /** A checksum of what a bitmap says. */
  readonly "x-debug-block-dirty-bitmap-sha256": { readonly arguments: BlockDirtyBitmap; readonly result: BlockDirtyBitmapSha256 };
  /** Starts a backup of what a node holds now to another node. The bitmap is frozen until the job ends. */
  readonly "blockdev-backup": { readonly arguments: BlockdevBackup; readonly result: Readonly<Record<string, never>> };
  /** Starts a backup to a file, which is made anew unless mode says otherwise. */
  readonly "drive-backup": { readonly arguments: DriveBackup; readonly result: Readonly<Record<string, never>> };
  /** Several actions at one instant, all or none. */
  readonly transaction: { readonly arguments: {
  /** The actions, in order. */
  readonly actions: ReadonlyArray<TransactionAction>;
  /** How they hang together. */
  readonly properties?: TransactionProperties;
}; readonly result: Readonly<Record<string, never>> };
  /** All jobs, newest first. */
  readonly "query-jobs": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<JobInfo> };
  /** Stops the copying; what guests overwrite is kept all the same. */
  readonly "job-pause": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** Goes on. A resumable job that was cut off finds its target among the nodes, by what it is and not by its name. */
  readonly "job-resume": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
  /** Ours alone: the node that is its target; if it is another one, the job is given up. */
  readonly target?: string;
  /** Ours alone: the file or device that is its target, opened for it and closed with it; another one is refused. */
  readonly filename?: string;
}; readonly result: Readonly<Record<string, never>> };
  /** Ends the job without success: its bitmap is reclaimed. */
  readonly "job-cancel": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** Ends a job that is ready; no backup ever is. */
  readonly "job-complete": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** Ends a pending job with success. */
  readonly "job-finalize": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** Forgets a concluded job. */
  readonly "job-dismiss": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** All backup jobs, newest first. */
  readonly "query-block-jobs": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<BlockJobInfo> };
  /** As job-cancel. */
  readonly "block-job-cancel": { readonly arguments: {
  /** Id of the job. */
  readonly device: string;
  /** Also if a user has paused it (default false). */
  readonly force?: boolean;
}; readonly result: Readonly<Record<string, never>> };
  /** As job-pause. */
  readonly "block-job-pause": { readonly arguments: {
  /** Id of the job. */
  readonly device: string;
}; readonly result: Readonly<Record<string, never>> };
  /** As job-resume. */
  readonly "block-job-resume": { readonly arguments: {
  /** Id of the job. */
  readonly device: string;
}; readonly result: Readonly<Record<string, never>> };
  /** As job-complete. */
  readonly "block-job-complete": { readonly arguments: {
  /** Id of the job. */
  readonly device: string;
}; readonly result: Readonly<Record<string, never>> };
  /** As job-finalize. */
  readonly "block-job-finalize": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** As job-dismiss. */
  readonly "block-job-dismiss": { readonly arguments: {
  /** Id of the job. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** Limits a job. */
  readonly "block-job-set-speed": { readonly arguments: {
  /** Id of the job. */
  readonly device: string;
  /** Bytes a second; 0: unlimited. */
  readonly speed: number;
}; readonly result: Readonly<Record<string, never>> };
  /** Starts the NBD server, without exports. */
  readonly "nbd-server-start": { readonly arguments: {
  /** Where it listens. */
  readonly addr: SocketAddressLegacy;
  /** Id of the credentials: TLS is required then. */
  readonly "tls-creds"?: string;
  /** Refused. */
  readonly "tls-authz"?: string;
  /** Clients at once; 0: no limit (default 100). */
  readonly "max-connections"?: number;
  /** A client that has not chosen an export by then is dropped; 0: no limit (default 10). */
  readonly "handshake-max-seconds"?: number;
}; readonly result: Readonly<Record<string, never>> };
  /** Takes the exports away, closes connections and stops listening. */
  readonly "nbd-server-stop": { readonly arguments: Readonly<Record<string, never>>; readonly result: Readonly<Record<string, never>> };
  /** As block-export-add, with the export's name as its id. Of a read-only node the export is read-only. */
  readonly "nbd-server-add": { readonly arguments: {
  /** Name and id (default: that of the node). */
  readonly name?: string;
  /** Text for people. */
  readonly description?: string;
  /** The node. */
  readonly device: string;
  /** Clients may write (default false). */
  readonly writable?: boolean;
  /** A bitmap that clients can read. */
  readonly bitmap?: string;
}; readonly result: Readonly<Record<string, never>> };
  /** As block-export-del. */
  readonly "nbd-server-remove": { readonly arguments: {
  /** Name of the export. */
  readonly name: string;
  /** Safe (default): refused while clients are connected. */
  readonly mode?: BlockExportRemoveMode;
}; readonly result: Readonly<Record<string, never>> };
  /** Exports a node. */
  readonly "block-export-add": { readonly arguments: BlockExportOptions; readonly result: Readonly<Record<string, never>> };
  /** Takes an export away; BLOCK_EXPORT_DELETED says when it is gone. */
  readonly "block-export-del": { readonly arguments: {
  /** Its id. */
  readonly id: string;
  /** Safe (default): refused while clients are connected; hard: they are dropped. */
  readonly mode?: BlockExportRemoveMode;
}; readonly result: Readonly<Record<string, never>> };
  /** All exports, newest first. */
  readonly "query-block-exports": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<BlockExportInfo> };
  /** Makes an object. */
  readonly "object-add": { readonly arguments: ObjectOptions; readonly result: Readonly<Record<string, never>> };
  /** Takes an object away that nobody uses. */
  readonly "object-del": { readonly arguments: {
  /** Its id. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** Properties of an object. */
  readonly "qom-list": { readonly arguments: {
  /** `/objects/ID`, or the id alone. */
  readonly path: string;
}; readonly result: ReadonlyArray<ObjectPropertyInfo> };
  /** A property of an object. */
  readonly "qom-get": { readonly arguments: {
  /** `/objects/ID`, or the id alone. */
  readonly path: string;
  /** The property. */
  readonly property: string;
}; readonly result: unknown };
  /** Changes a property of an object. */
  readonly "qom-set": { readonly arguments: {
  /** `/objects/ID`, or the id alone. */
  readonly path: string;
  /** The property. */
  readonly property: string;
  /** Its value. */
  readonly value: unknown;
}; readonly result: Readonly<Record<string, never>> };
  /** All character devices. */
  readonly "query-chardev": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<ChardevInfo> };
  /** Adds a character device. */
  readonly "chardev-add": { readonly arguments: {
  /** Its id. */
  readonly id: string;
  /** What it is. */
  readonly backend: ChardevBackend;
}; readonly result: ChardevReturn };
  /** Takes a character device away that no monitor has. */
  readonly "chardev-remove": { readonly arguments: {
  /** Its id. */
  readonly id: string;
}; readonly result: Readonly<Record<string, never>> };
  /** State and history of every actor, those of the last jobs that were dismissed included. */
  readonly "x-heirloom-query-actors": { readonly arguments: Readonly<Record<string, never>>; readonly result: ReadonlyArray<HeirloomActor> };
}

export interface QmpEvents {
  /** A job has gone on. */
  readonly JOB_STATUS_CHANGE: {
  /** Id of the job. */
  readonly id: string;
  /** Where it stands now. */
  readonly status: JobStatus;
};
  /** A job has ended, with success or with an error. */
  readonly BLOCK_JOB_COMPLETED: {
  /** What the job does. */
  readonly type: JobType;
  /** Id of the job. */
  readonly device: string;
  /** Bytes in all. */
  readonly len: number;
  /** Bytes done. */
  readonly offset: number;
  /** Bytes a second; 0: unlimited. */
  readonly speed: number;
  /** Why it failed. */
  readonly error?: string;
};
  /** A job was cancelled. */
  readonly BLOCK_JOB_CANCELLED: {
  /** What the job does. */
  readonly type: JobType;
  /** Id of the job. */
  readonly device: string;
  /** Bytes in all. */
  readonly len: number;
  /** Bytes done. */
  readonly offset: number;
  /** Bytes a second; 0: unlimited. */
  readonly speed: number;
};
  /** A job has done its work and waits for job-finalize. */
  readonly BLOCK_JOB_PENDING: {
  /** What the job does. */
  readonly type: JobType;
  /** Id of the job. */
  readonly id: string;
};
  /** A job met an I/O error. */
  readonly BLOCK_JOB_ERROR: {
  /** Id of the job. */
  readonly device: string;
  /** What failed. */
  readonly operation: IoOperationType;
  /** What became of the job. */
  readonly action: BlockErrorAction;
};
  /** The point in time of a copy-before-write node was given up, and the guest went on: reads of it fail from now on. */
  readonly BLOCK_IO_ERROR: {
  /** Empty: nodes here are no devices. */
  readonly device: string;
  /** The node. */
  readonly "node-name"?: string;
  /** Read: old data could not be read; write: it could not be kept. */
  readonly operation: IoOperationType;
  /** Ignore: the guest's request was done. */
  readonly action: BlockErrorAction;
  /** There was no room for it. */
  readonly nospace?: boolean;
  /** For people. */
  readonly reason: string;
};
  /** Ours alone. What a node's persistent bitmaps are kept in could not be written: they are inconsistent from now on, and guests go on. */
  readonly JOURNAL_FAILED: {
  /** The node. */
  readonly "node-name": string;
  /** Those that were consistent until now. */
  readonly bitmaps: ReadonlyArray<string>;
  /** What failed. */
  readonly reason: string;
};
  /** An export is gone. */
  readonly BLOCK_EXPORT_DELETED: {
  /** Its id. */
  readonly id: string;
};
}
