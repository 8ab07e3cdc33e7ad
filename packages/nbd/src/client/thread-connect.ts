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
import type { NbdAddress, NbdUriTls } from "../protocol/uri.ts";
import { type Agreement, ClientHandshake, type HandshakeAction } from "./handshake.ts";
import { hostAddresses } from "./host-addresses.ts";
import { nowMs, type Patience } from "./patience.ts";
import { secureDescriptor } from "./thread-tls.ts";
import { describeAddress } from "./transport.ts";

const { EINPROGRESS, ENOSYS, ETIMEDOUT } = constants.errno;

const BACKLOG_PAUSE_MS = 20;

export interface ThreadTarget {
  readonly address: NbdAddress;
  readonly exportName: string;
  /** Required where it is given. */
  readonly tls: NbdUriTls | undefined;
}

export interface ThreadConnection {
  readonly fd: number;
  readonly agreement: Agreement;
}

/**
 * @param deadline of `nowMs`
 * @throws NbdError; no descriptor is left behind
 */
export function connectThread(
  target: ThreadTarget,
  contexts: readonly string[],
  patience: Patience,
  deadline: number,
): ThreadConnection {
  const negotiation = new ThreadNegotiation(target, patience, deadline);
  return negotiation.run(contexts);
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

class ThreadNegotiation {
  readonly #target: ThreadTarget;
  readonly #patience: Patience;
  readonly #deadline: number;
  /** Of the socket, then of the tunnel; undefined where it is somebody else's. */
  #fd: number | undefined;

  constructor(target: ThreadTarget, patience: Patience, deadline: number) {
    this.#target = target;
    this.#patience = patience;
    this.#deadline = deadline;
  }

  run(contexts: readonly string[]): ThreadConnection {
    const { address, exportName, tls } = this.#target;
    this.#fd = connectAny(address, this.#patience, this.#deadline);
    const goal = { kind: "transmission" as const, exportName, contexts };
    const handshake = new ClientHandshake({ tls: tls !== undefined, goal });
    try {
      return { agreement: this.#negotiate(handshake), fd: this.#fd };
    } catch (error) {
      if (this.#fd !== undefined) closeFile(this.#fd);
      throw error;
    }
  }

  #negotiate(handshake: ClientHandshake): Agreement {
    const input = new Uint8Array(65536);
    for (;;) {
      const fd = this.#fd as number;
      const count = receiveBytes(fd, input);
      if (count === -EAGAIN) {
        const errno = this.#patience.forSocket(fd, POLLIN, this.#deadline);
        if (errno !== 0) throw handshakeFailure(errno, handshake);
        continue;
      }
      if (count < 0) throw handshakeFailure(-count, handshake);
      const actions = count === 0 ? handshake.ended() : handshake.receive(input.subarray(0, count));
      const agreement = this.#perform(handshake, actions);
      if (agreement !== undefined) return agreement;
    }
  }

  #perform(handshake: ClientHandshake, actions: readonly HandshakeAction[]): Agreement | undefined {
    for (const action of actions) {
      switch (action.kind) {
        case "send": {
          const errno = sendAll(this.#fd as number, action.bytes, this.#patience, this.#deadline);
          if (errno !== 0) throw handshakeFailure(errno, handshake);
          break;
        }
        case "start-tls":
          this.#startTls();
          return this.#perform(handshake, handshake.secured());
        case "failed":
          throw action.error;
        case "done":
          if (action.result.kind === "transmission" && action.rest.length === 0) return action.result.agreement;
          throw new NbdError("ERR_NBD_PROTOCOL", "NBD transmission: the server answers before it was asked");
      }
    }
    return undefined;
  }

  #startTls(): void {
    const { address, tls = {} } = this.#target;
    const name = tls.hostname ?? (address.transport === "tcp" ? address.host : "localhost");
    const fd = this.#fd as number;
    this.#fd = undefined;
    this.#fd = secureDescriptor(fd, tls, name, this.#patience, this.#deadline);
  }
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

function handshakeFailure(errno: Errno, { stage, securing }: ClientHandshake): NbdError {
  const code = errno === ETIMEDOUT ? "ERR_NBD_TIMEOUT" : securing ? "ERR_NBD_TLS" : "ERR_NBD_CONNECT";
  return new NbdError(code, `NBD handshake: ${errnoText(errno)} (${errnoName(errno)}) while ${stage}`, { errno });
}

function failure(address: NbdAddress, why: string | undefined, errno: Errno): NbdError {
  const reason = why ?? `${errnoText(errno)} (${errnoName(errno)})`;
  const code = errno === ETIMEDOUT ? "ERR_NBD_TIMEOUT" : "ERR_NBD_CONNECT";
  return new NbdError(code, `connect to ${describeAddress(address)}: ${reason}`, errno === 0 ? {} : { errno });
}
