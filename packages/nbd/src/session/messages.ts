/** What the server's main thread and its threads say to each other. */
import type { BitmapHandle } from "@heirloom/bitmap";
import type { PostedDisk, PostedView } from "@heirloom/engine";
import type { PayloadBudget } from "./payload-memory.ts";

/** An export, for the threads that serve it. */
export interface PostedExport {
  readonly id: number;
  /** The same for exports that share a gate. */
  readonly disk: string;
  /** What reads come from: the disk itself, or a point in time. */
  readonly source: { readonly disk: PostedDisk } | { readonly view: PostedView };
  readonly writable: boolean;
  /** Bytes, as offered to clients. */
  readonly length: number;
  readonly alignment: number;
  /** Of a request with a payload. */
  readonly payloadBytesMax: number;
  /** In the order of the offer's contexts. */
  readonly contexts: readonly PostedContext[];
  /** Where the session threads count what goes through it (traffic.ts). */
  readonly traffic: SharedArrayBuffer;
}

export type PostedContext =
  | { readonly kind: "allocation" }
  | { readonly kind: "depth" }
  | { readonly kind: "bitmap"; readonly bitmap: BitmapHandle };

export interface PostedConnection {
  readonly id: number;
  /** Stays the main thread's to close. */
  readonly fd: number;
  readonly export: number;
  /** What came behind the handshake. */
  readonly unread: Uint8Array;
  readonly structured: boolean;
  readonly extended: boolean;
  /** Ids on the wire, and indexes into the export's contexts. */
  readonly contexts: ReadonlyArray<{ readonly id: number; readonly index: number }>;
}

/** What the threads of one server share. */
export interface SharedByServer {
  readonly work: SharedArrayBuffer;
  readonly slots: number;
  readonly budget: PayloadBudget;
}

export interface SessionOptions extends SharedByServer {
  /** Its range of slots and its owner's number: from 0. */
  readonly index: number;
  readonly doorbell: number;
  /** Helpers of the server, not counted those that each export has for itself (work-layout.ts). */
  readonly helpersMax: number;
}

export type ToSession =
  | { readonly type: "export"; readonly export: PostedExport }
  | { readonly type: "connection"; readonly connection: PostedConnection }
  /** Its connections end: after what is in flight was answered, or at once. Then it is let go of. */
  | { readonly type: "endExport"; readonly export: number; readonly hard: boolean }
  | { readonly type: "endConnection"; readonly connection: number }
  /** When it has no export left. */
  | { readonly type: "end" };

export type FromSession =
  /** A descriptor of its own, to be closed when it has ended. */
  | { readonly type: "opened"; readonly fd: number }
  | { readonly type: "closed"; readonly connection: number; readonly reason: string; readonly requests: number }
  | { readonly type: "letGo"; readonly export: number }
  /** All helpers are busy. */
  | { readonly type: "helpWanted" };

export interface HelperOptions extends SharedByServer {
  /** Those that there are when it starts: it may have work to do for one before any message has come. */
  readonly exports: readonly PostedExport[];
}
export type ToHelper =
  | { readonly type: "export"; readonly export: PostedExport }
  | { readonly type: "forget"; readonly export: number }
  /** When there is nothing to do. */
  | { readonly type: "end" };
export type FromHelper =
  | { readonly type: "ready" }
  /** It has had nothing to do for long. */
  | { readonly type: "idle" };
