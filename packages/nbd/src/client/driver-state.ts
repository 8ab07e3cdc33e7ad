/** What an nbd node's handle carries to every thread. */
import type { ThreadTarget } from "./thread-connect.ts";

export interface DriverState extends ThreadTarget {
  /** See driver-memory.ts. */
  readonly shared: SharedArrayBuffer;
  // What the export was when the node was opened; a connection that finds less is not used.
  readonly length: number;
  /** Transmission flags. */
  readonly flags: number;
  readonly alignment: number;
  /** Bytes of a request with a payload. */
  readonly payloadMax: number;
  /** Whether the server tells of base:allocation. */
  readonly allocation: boolean;
  readonly openTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly reconnectDelayMs: number;
  readonly assumeWritesSurvive: boolean;
}
