/**
 * What the main thread and the thread that carries TLS say to each other. A tunnel has a number; what both do to its two
 * descriptors is settled by a word that they share: whoever sets it first has them, so that a thread that dies before it
 * took them leaves them to the main thread, and no number is closed twice.
 */
import type { TlsCredentials } from "./credentials.ts";
import type { TlsErrorCode } from "./tls-error.ts";

/** How sure a side must be of the other. */
export type Verification =
  /** Server: a client without a certificate is turned away. */
  | {
      readonly role: "server";
      readonly clientCertificates: "none" | "optional" | "required";
      readonly allowedNames: readonly string[] | undefined;
    }
  /** Client: by chain and name, by chain alone, or not at all. */
  | {
      readonly role: "client";
      readonly verifyPeer: "name" | "chain" | "none";
      readonly serverName: string | undefined;
    };

export interface StartMessage {
  readonly type: "start";
  readonly tunnel: number;
  /** The connection. */
  readonly fd: number;
  /** The thread's end of the pair whose other end is the plaintext. */
  readonly plainFd: number;
  /** One word: 0, or who has taken the two descriptors. */
  readonly claim: Int32Array;
  readonly unread: Uint8Array;
  readonly credentials: TlsCredentials;
  readonly verification: Verification;
  readonly timeoutMs: number;
}

/** Ends a tunnel that is not up yet. */
export interface AbortMessage {
  readonly type: "abort";
  readonly tunnel: number;
}

/** Ends the thread, and with it all tunnels; those that were asked for before have been taken over by then. */
export interface EndMessage {
  readonly type: "end";
}

export type ToTunnels = StartMessage | AbortMessage | EndMessage;

export type FromTunnels =
  | { readonly type: "up"; readonly tunnel: number; readonly peer: PeerFacts }
  | { readonly type: "failed"; readonly tunnel: number; readonly code: TlsErrorCode; readonly message: string }
  /** It was up, and its descriptors are closed. */
  | { readonly type: "down"; readonly tunnel: number };

/** What is known of the peer of a tunnel. */
export interface PeerFacts {
  /** "TLSv1.3" */
  readonly protocol: string;
  readonly cipher: string;
  /** Distinguished name of its certificate, where it showed one. */
  readonly subject: string | undefined;
  /** Its name among the pre-shared keys. */
  readonly identity: string | undefined;
}

const CLAIMED_BY_THREAD = 1;
const CLAIMED_BY_MAIN = 2;

/** Whether the thread has the descriptors now. */
export function claimForThread(claim: Int32Array): boolean {
  return Atomics.compareExchange(claim, 0, 0, CLAIMED_BY_THREAD) === 0;
}

/** Whether the main thread has them now, since the thread will never take them. */
export function claimForMain(claim: Int32Array): boolean {
  return Atomics.compareExchange(claim, 0, 0, CLAIMED_BY_MAIN) === 0;
}
