/** Connecting and negotiating on a thread without an event loop: everything waits in `Patience`. */
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  closeFile,
  connectSocket,
  EAGAIN,
  type Errno,
  errnoName,
  errnoText,
  internetAddress,
  openSocket,
  POLLIN,
  POLLOUT,
  receiveBytes,
  sendBytes,
  setNoDelay,
  socketError,
  unixAddress,
} from "@heirloom/block";
import { constants } from "node:os";
import { NbdError } from "../protocol/nbd-error.ts";
import type { NbdAddress } from "../protocol/uri.ts";
import { type Agreement, ClientHandshake, type HandshakeAction } from "./handshake.ts";
import { hostAddresses } from "./host-addresses.ts";
import { nowMs, type Patience } from "./patience.ts";
import { describeAddress } from "./transport.ts";

const { EINPROGRESS, ENOSYS, ETIMEDOUT } = constants.errno;

const BACKLOG_PAUSE_MS = 20;

export interface ThreadConnection {
  readonly fd: number;
  readonly agreement: Agreement;
}

/**
 * @param deadline of `nowMs`
 * @throws NbdError; no descriptor is left behind
 */
export function connectThread(
  address: NbdAddress,
  exportName: string,
  contexts: readonly string[],
  patience: Patience,
  deadline: number,
): ThreadConnection {
  const fd = connectAny(address, patience, deadline);
  try {
    const agreement = negotiate(fd, exportName, contexts, patience, deadline);
    return { fd, agreement };
  } catch (error) {
    closeFile(fd);
    if (error instanceof NbdError) throw error;
    throw new NbdError("ERR_NBD_CONNECT", `negotiate with ${describeAddress(address)}: ${String(error)}`);
  }
}

function connectAny(address: NbdAddress, patience: Patience, deadline: number): number {
  if (address.transport === "unix") {
    const record = unixAddress(address.path);
    if (record === undefined) throw failure(address, "the path of the socket has more than 107 bytes", 0);
    // A name in the abstract namespace is as long as its address says, so it ends without a NUL.
    return connectOne(
      address,
      AF_UNIX,
      address.path.startsWith("\0") ? record.subarray(0, -1) : record,
      patience,
      deadline,
    );
  }
  const found = hostAddresses(address.host, (words) => patience.forWord(words, deadline));
  if (typeof found === "string") throw failure(address, found, 0);
  let last = failure(address, "the host has no address", 0);
  for (const bytes of found) {
    try {
      const domain = bytes.length === 4 ? AF_INET : AF_INET6;
      const fd = connectOne(address, domain, internetAddress(bytes, address.port), patience, deadline);
      setNoDelay(fd);
      return fd;
    } catch (error) {
      if (!(error instanceof NbdError)) throw error;
      last = error;
    }
  }
  throw last;
}

function connectOne(
  address: NbdAddress,
  domain: number,
  record: Uint8Array,
  patience: Patience,
  deadline: number,
): number {
  const fd = openSocket(domain);
  if (fd === -ENOSYS) throw failure(address, "it needs system calls that are missing here (no koffi)", ENOSYS);
  if (fd < 0) throw failure(address, undefined, -fd);
  let errno = connectSocket(fd, record);
  // A Unix socket whose backlog is full says EAGAIN, and cannot be polled for.
  while (errno === EAGAIN) {
    errno = nowMs() < deadline ? patience.sleep(BACKLOG_PAUSE_MS) || connectSocket(fd, record) : ETIMEDOUT;
  }
  if (errno === EINPROGRESS) errno = patience.forSocket(fd, POLLOUT, deadline) || socketError(fd);
  if (errno === 0) return fd;
  closeFile(fd);
  throw failure(address, undefined, errno);
}

function negotiate(
  fd: number,
  exportName: string,
  contexts: readonly string[],
  patience: Patience,
  deadline: number,
): Agreement {
  const handshake = new ClientHandshake({ tls: false, goal: { kind: "transmission", exportName, contexts } });
  const input = new Uint8Array(65536);
  for (;;) {
    const count = receiveBytes(fd, input);
    if (count === -EAGAIN) {
      const errno = patience.forSocket(fd, POLLIN, deadline);
      if (errno !== 0) throw handshakeFailure(errno, handshake.stage);
      continue;
    }
    if (count < 0) throw handshakeFailure(-count, handshake.stage);
    const actions = count === 0 ? handshake.ended() : handshake.receive(input.subarray(0, count));
    const agreement = perform(fd, actions, patience, deadline, handshake.stage);
    if (agreement !== undefined) return agreement;
  }
}

function perform(
  fd: number,
  actions: readonly HandshakeAction[],
  patience: Patience,
  deadline: number,
  stage: string,
): Agreement | undefined {
  for (const action of actions) {
    if (action.kind === "send") {
      const errno = sendAll(fd, action.bytes, patience, deadline);
      if (errno !== 0) throw handshakeFailure(errno, stage);
    } else if (action.kind === "failed") {
      throw action.error;
    } else if (action.kind === "done" && action.result.kind === "transmission") {
      if (action.rest.length === 0) return action.result.agreement;
      throw new NbdError("ERR_NBD_PROTOCOL", "NBD transmission: the server answers before it was asked");
    }
  }
  return undefined;
}

export function sendAll(fd: number, bytes: Uint8Array, patience: Patience, deadline: number): Errno {
  for (let done = 0; done < bytes.length;) {
    const count = sendBytes(fd, done === 0 ? bytes : bytes.subarray(done));
    if (count >= 0) {
      done += count;
      continue;
    }
    const errno = count === -EAGAIN ? patience.forSocket(fd, POLLOUT, deadline) : -count;
    if (errno !== 0) return errno;
  }
  return 0;
}

function handshakeFailure(errno: Errno, stage: string): NbdError {
  const code = errno === ETIMEDOUT ? "ERR_NBD_TIMEOUT" : "ERR_NBD_CONNECT";
  return new NbdError(code, `NBD handshake: it ended while ${stage} (errno ${errno})`, { errno });
}

function failure(address: NbdAddress, why: string | undefined, errno: Errno): NbdError {
  const reason = why ?? `${errnoText(errno)} (${errnoName(errno)})`;
  const code = errno === ETIMEDOUT ? "ERR_NBD_TIMEOUT" : "ERR_NBD_CONNECT";
  return new NbdError(code, `connect to ${describeAddress(address)}: ${reason}`, errno === 0 ? {} : { errno });
}
