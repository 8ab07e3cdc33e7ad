/** The client as a block node: its driver's URL, and how to ask for one. */
import type { NodeHandle, NodeSpec } from "@heirloom/block";
import { parseNbdUri } from "../protocol/uri.ts";
import { INTERRUPTS } from "./driver-memory.ts";
import type { DriverState } from "./driver-state.ts";
import { startNbdTls } from "./tls-service.ts";

/** File URL of the driver module; the `driver` of a node's specification. */
export const nbdDriver: string = new URL("./driver.js", import.meta.url).href;

export interface NbdNodeOptions {
  /** An NBD URI, with TLS where it says so; instead of `path`, `host`, `port` and `export`. */
  readonly uri?: string;
  /** Of a Unix socket. */
  readonly path?: string;
  readonly host?: string;
  readonly port?: number;
  readonly export?: string;
  /** As the server has it where it is not given. */
  readonly readOnly?: boolean;
  /** Most, where the server says that several are one disk; 4 by default. */
  readonly connections?: number;
  /** For each connection, negotiation included; 10 s by default. */
  readonly openTimeoutMs?: number;
  /** How long nothing may move while an answer is awaited before a request ends with ETIMEDOUT; 60 s by default, 0: for ever. */
  readonly requestTimeoutMs?: number;
  /** How long requests wait for a new connection before they end with EIO; 0 by default: they fail with the connection. */
  readonly reconnectDelayMs?: number;
  /** See `NbdClientOptions`. */
  readonly assumeWritesSurvive?: boolean;
}

/**
 * For a URI with TLS call it on a thread that outlives the node: it starts a thread there (see `startNbdTls`).
 *
 * @throws NbdError ERR_NBD_URI
 * @example const handle = await openNode(nbdNode({ path: "/run/nbd.sock", export: "disk" }));
 */
export function nbdNode(options: NbdNodeOptions): NodeSpec {
  const { export: exportName, ...rest } = options;
  if (options.uri !== undefined && parseNbdUri(options.uri).tls !== undefined) startNbdTls();
  return {
    ...rest,
    // The default export has no name to be given.
    ...(exportName === undefined || exportName === "" ? {} : { export: exportName }),
    driver: nbdDriver,
  };
}

/**
 * Ends the requests that are on their way on any thread, within a fraction of a second: with ECANCELED, and with their
 * connections. Later ones are not touched. Also for a node that has nbd nodes under it.
 */
export function interruptNbd(handle: NodeHandle): void {
  if (handle.driver === nbdDriver) {
    const words = new Int32Array((handle.state as DriverState).shared);
    Atomics.add(words, INTERRUPTS, 1);
  }
  for (const child of handle.children) interruptNbd(child);
}
