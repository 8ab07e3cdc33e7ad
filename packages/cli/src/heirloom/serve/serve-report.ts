/** What `heirloom serve` tells, whichever way: as text, on a terminal, or as JSON. */
import type { Serving } from "./serving.ts";

export interface ServeReport {
  /** Clients can connect. */
  ready(serving: Serving): void;
  clientCame(client: ClientEvent): void;
  clientLeft(client: ClientEvent & { readonly reason: string; readonly requests: number | undefined }): void;
  /** It got no further than the handshake. */
  clientRefused(refused: { readonly peer: string; readonly code: string; readonly reason: string }): void;
  threadDied(reason: string): void;
  /** What kept a disk's bitmaps could not be written: they say nothing from now on. */
  journalFailed(failure: { readonly disk: string; readonly bitmaps: readonly string[]; readonly error: string }): void;
  stopping(stop: StopEvent): void;
  /** Ends what is written anew in place, too. */
  stopped(end: StopEnd): void;
}

export interface ClientEvent {
  readonly connection: number;
  readonly export: string;
  readonly peer: string;
  /** Where there is TLS: who it is, by its certificate or its secret. */
  readonly tls?: { readonly subject?: string | undefined; readonly identity?: string | undefined } | undefined;
}

export interface StopEvent {
  readonly signal: string;
  /** Connections that stand. */
  readonly clients: number;
  /** Clients are cut off, rather than answered what they have in flight. */
  readonly hard: boolean;
}

export interface StopEnd {
  /** Everything was answered and flushed. */
  readonly clean: boolean;
  /** Where it is not clean. */
  readonly why: string | undefined;
}
