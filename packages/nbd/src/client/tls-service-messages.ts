/**
 * What threads without an event loop and the thread that puts TLS on their connections say to each other, over one channel
 * of the process: threads come and go, and none of them has a port to the other.
 *
 * The word that both have settles whose the connection is, whatever becomes of either:
 *
 *     OFFERED ──► TAKEN (by the service, which closes it) ──► DELIVERED (there is another for the thread to take)
 *        │          └──► GIVEN_UP (by the thread: the service closes all there is)
 *        └──► WITHDRAWN (by the thread, which closes it)
 */
import type { NbdUriTls } from "../protocol/uri.ts";

/** Threads of one process hear each other, and no others. */
export const TLS_CHANNEL = "heirloom-nbd-tls";

export const OFFERED = 0;
export const TAKEN = 1;
export const DELIVERED = 2;
export const GIVEN_UP = 3;
export const WITHDRAWN = 4;

export type ToTlsService =
  | { readonly ask: "hello"; readonly from: string }
  | {
      readonly ask: "secure";
      readonly from: string;
      readonly fd: number;
      /** One word. */
      readonly claim: Int32Array;
      readonly tls: NbdUriTls;
      readonly serverName: string;
      readonly timeoutMs: number;
    };

export type FromTlsService =
  | { readonly to: string; readonly is: "here" }
  /** Plaintext. */
  | { readonly to: string; readonly is: "secured"; readonly fd: number }
  | { readonly to: string; readonly is: "failed"; readonly message: string };
