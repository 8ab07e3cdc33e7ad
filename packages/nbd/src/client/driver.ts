/**
 * `nbd`: a disk that is an export of an NBD server, for threads that run straight-line code. Opening, connecting and
 * closing; the verbs are in driver-node.ts. Loaded by file URL (nbd-node.ts).
 */
import { BlockError, closeFile, type Driver, type NodeHandle, type OptionTable, sendBytes } from "@heirloom/block";
import { constants } from "node:os";
import { resolve } from "node:path";
import {
  CMD_DISC,
  CONTEXT_ALLOCATION,
  EXTENDED_REQUEST_BYTES,
  FLAG_CAN_MULTI_CONN,
  FLAG_READ_ONLY,
} from "../protocol/constants.ts";
import { NbdError } from "../protocol/nbd-error.ts";
import { NBD_PORT, type NbdAddress, parseNbdUri } from "../protocol/uri.ts";
import { adoptConnection } from "./driver-connections.ts";
import * as memory from "./driver-memory.ts";
import { NbdNode } from "./driver-node.ts";
import type { DriverState } from "./driver-state.ts";
import { nowMs, Patience } from "./patience.ts";
import { encodeRequest } from "./request-codec.ts";
import { connectThread, type ThreadConnection, type ThreadTarget } from "./thread-connect.ts";
import { describeAddress } from "./transport.ts";

interface NbdOptions {
  readonly uri?: string;
  readonly path?: string;
  readonly host?: string;
  readonly port: number;
  readonly export?: string;
  readonly readOnly?: boolean;
  readonly connections: number;
  readonly openTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly reconnectDelayMs: number;
  readonly assumeWritesSurvive: boolean;
}

/** A request with a payload is at most this, whatever the server would take. */
const PAYLOAD_BYTES_MAX: number = 32 * 1024 * 1024;
const TIME_MAX: number = 2 ** 31 - 1;

const options: OptionTable = {
  uri: { type: "string", doc: "an NBD URI; instead of path, host, port and export" },
  path: { type: "string", doc: "path of a Unix socket" },
  host: { type: "string", doc: "name or address of a TCP host" },
  port: { type: "integer", min: 1, max: 65535, default: NBD_PORT, doc: "TCP port" },
  export: { type: "string", doc: "name of the export; the default export where it is not given" },
  readOnly: { type: "boolean", doc: "refuse changes; as the server has it where it is not given" },
  connections: { type: "integer", min: 1, max: 64, default: 4, doc: "most, where the server allows several" },
  openTimeoutMs: { type: "integer", min: 1, max: TIME_MAX, default: 10_000, doc: "for each connection" },
  requestTimeoutMs: {
    type: "integer",
    max: TIME_MAX,
    default: 60_000,
    doc: "how long nothing may move while an answer is awaited; 0: for ever",
  },
  reconnectDelayMs: { type: "integer", max: TIME_MAX, default: 0, doc: "how long requests wait for a new connection" },
  assumeWritesSurvive: { type: "boolean", default: false, doc: "a flush covers what a lost connection acknowledged" },
};

export const driver: Driver = {
  options,
  open: (given) => openExport(given as unknown as NbdOptions),
  connect: (handle) => new NbdNode(handle.state as DriverState),
  reopen: ({ state, identity }, readOnly) => {
    if (readOnly || ((state as DriverState).flags & FLAG_READ_ONLY) === 0) return;
    throw refusal(identity, serverReadsOnly, constants.errno.EROFS);
  },
  close: closeConnections,
};

function openExport(given: NbdOptions): NodeHandle {
  const target = readTarget(given);
  const name = describeTarget(target.address, target.exportName);
  const shared = memory.makeDriverMemory(given.connections);
  const words = new Int32Array(shared);
  const ticket = memory.takeTicket(words);
  memory.tryTakeSlot(words, 0, ticket);
  const patience = new Patience(words, 0, ticket, 0);
  const first = connectFirst(target, name, patience, given.openTimeoutMs);
  try {
    const { export: found, contexts } = first.agreement;
    const readOnly = checkAccess(name, (found.flags & FLAG_READ_ONLY) !== 0, given.readOnly);
    const { minimum, maximum } = found.blockSize;
    if (found.length % minimum !== 0) {
      throw refusal(name, `its ${found.length} bytes are no multiple of its minimum block size, ${minimum}`);
    }
    const slots = (found.flags & FLAG_CAN_MULTI_CONN) === 0 ? 1 : given.connections;
    const state: DriverState = {
      ...target,
      // Threads that share one connection find no second slot.
      shared: slots === given.connections ? shared : memory.makeDriverMemory(slots),
      length: found.length,
      flags: found.flags,
      alignment: minimum,
      payloadMax: Math.min(maximum, PAYLOAD_BYTES_MAX - (PAYLOAD_BYTES_MAX % minimum)),
      allocation: contexts.length > 0,
      openTimeoutMs: given.openTimeoutMs,
      requestTimeoutMs: given.requestTimeoutMs,
      reconnectDelayMs: given.reconnectDelayMs,
      assumeWritesSurvive: given.assumeWritesSurvive,
    };
    adoptConnection(new Int32Array(state.shared), 0, first);
    memory.releaseSlot(words, 0, ticket);
    return {
      driver: import.meta.url,
      readOnly,
      alignment: minimum,
      clusterSize: 0,
      identity: name,
      state,
      children: [],
    };
  } catch (error) {
    closeFile(first.fd);
    throw error;
  }
}

function readTarget(given: NbdOptions): ThreadTarget {
  const ways = [given.uri, given.path, given.host].filter((way) => way !== undefined).length;
  if (ways !== 1 || (given.uri !== undefined && given.export !== undefined)) {
    const message = "open nbd: expected one of 'uri', 'path' and 'host', the latter two with an 'export'";
    throw new BlockError("ERR_NODE_OPTION", message, { node: "nbd" });
  }
  if (given.path !== undefined) {
    return { address: { transport: "unix", path: given.path }, exportName: given.export ?? "", tls: undefined };
  }
  if (given.host !== undefined) {
    const address = { transport: "tcp" as const, host: given.host, port: given.port };
    return { address, exportName: given.export ?? "", tls: undefined };
  }
  try {
    const { address, exportName, tls } = parseNbdUri(given.uri as string);
    return { address, exportName, tls };
  } catch (cause) {
    throw new BlockError("ERR_NODE_OPTION", `open nbd: ${(cause as Error).message}`, { node: "nbd", cause });
  }
}

function connectFirst(target: ThreadTarget, name: string, patience: Patience, timeoutMs: number): ThreadConnection {
  try {
    return connectThread(target, [CONTEXT_ALLOCATION], patience, nowMs() + timeoutMs);
  } catch (cause) {
    if (!(cause instanceof NbdError)) throw cause;
    const { errno, message } = cause;
    const code = errno === constants.errno.ENOSYS ? "ERR_NOT_SUPPORTED" : "ERR_NODE_OPEN";
    throw new BlockError(code, `open '${name}': ${message}`, { node: name, errno, cause });
  }
}

const serverReadsOnly = "the server offers it for reading only; expected readOnly: true";

function checkAccess(name: string, serverReadOnly: boolean, wanted: boolean | undefined): boolean {
  if (serverReadOnly && wanted === false) {
    throw refusal(name, serverReadsOnly, constants.errno.EROFS);
  }
  return wanted ?? serverReadOnly;
}

function refusal(name: string, why: string, errno?: number): BlockError {
  return new BlockError("ERR_NODE_OPEN", `open '${name}': ${why}`, { node: name, errno });
}

/** Equal strings are the same storage. Names of one host that differ are not known to be one. */
function describeTarget(address: NbdAddress, exportName: string): string {
  const isPath = address.transport === "unix" && !address.path.startsWith("\0");
  const place = isPath ? `unix:${resolve(address.path)}` : describeAddress(address);
  return `nbd:${place}:${exportName}`;
}

function closeConnections(handle: NodeHandle): void {
  const words = new Int32Array((handle.state as DriverState).shared);
  if (Atomics.exchange(words, memory.CLOSED, 1) === 1) {
    throw new BlockError("ERR_REQUEST", `close '${handle.identity}': it is closed already`, { node: handle.identity });
  }
  const header = new Uint8Array(EXTENDED_REQUEST_BYTES);
  for (const { fd, mode } of memory.takeDescriptors(words)) {
    if (mode !== undefined) {
      const extended = (mode & memory.MODE_EXTENDED) !== 0;
      const size = encodeRequest(new DataView(header.buffer), extended, 0, CMD_DISC, 0, 0, 0);
      // A goodbye is a courtesy: where it finds no room the server sees the end all the same.
      sendBytes(fd, header.subarray(0, size));
    }
    closeFile(fd);
  }
}
