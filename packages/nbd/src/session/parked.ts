/** A request that is with a helper, from the side of the session that waits for it. */
import type { Connection } from "./connection.ts";
import type { Exported } from "./exported.ts";
import type { PostedConnection } from "./messages.ts";
import type { Answered } from "./replies.ts";

/** Room before a parked read's data for the header of its reply. */
export const HEADER_ROOM = 64;

/** A read or write that is answered when all its pieces are done. */
export interface Transfer extends Answered {
  /** workRead or workWrite. */
  readonly operation: number;
  /** Where the next piece begins, and where the last one ends. */
  next: number;
  readonly end: number;
  /** Pieces that helpers have. */
  outstanding: number;
  /** All pieces are under way or done. */
  issued: boolean;
  /** The first that failed. */
  errno: number;
  /** What is said of it, if that is not what every such failure is called. */
  text: string | undefined;
  readonly fua: boolean;
}

export interface Parked {
  readonly connection: Connection;
  readonly exported: Exported;
  readonly answered: Answered;
  /** One of the `work` numbers, with its flags. */
  readonly operation: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Its piece of payload memory, or -1. */
  readonly place: number;
  readonly placeBytes: number;
  /** Of which it is a piece. */
  readonly transfer: Transfer | undefined;
  /** Of block status: what it is asked of, and how many extents the helper found. */
  readonly contexts: PostedConnection["contexts"];
  found: number;
}
