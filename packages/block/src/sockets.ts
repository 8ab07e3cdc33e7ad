/**
 * Sockets, poll and epoll for threads that own descriptors and have no event loop. Every call answers at once or in a
 * bounded time: transfers never block, waiting is `pollDescriptors` or `EventPoll.wait`.
 *
 * Answers are results of 0 or more, or a negative errno; -ENOSYS throughout where koffi is missing. EINTR is looped
 * over, but for waits, which answer "nothing" so that their caller looks at its time again.
 */
import { EINTR, ENOSYS } from "./errno.ts";
import { withoutNativeCalls } from "./libc.ts";
import type { Errno } from "./node.ts";
import { loadNativeSocketCalls } from "./sockets-native.ts";

/** Raw calls. */
export interface SocketCalls {
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, pair: Int32Array): number;
  bind(fd: number, address: Uint8Array): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Uint8Array): number;
  shutdown(fd: number, how: number): number;
  recv(fd: number, buffer: Uint8Array, flags: number): number;
  send(fd: number, buffer: Uint8Array, flags: number): number;
  poll(records: Int32Array, count: number, timeoutMs: number): number;
  epollCreate(flags: number): number;
  epollControl(epoll: number, operation: number, fd: number, event: Uint8Array): number;
  epollWait(epoll: number, events: Uint8Array, count: number, timeoutMs: number): number;
  eventfd(initial: number, flags: number): number;
  read(fd: number, buffer: Uint8Array): number;
  write(fd: number, buffer: Uint8Array): number;
  setOption(fd: number, level: number, option: number, value: Int32Array): number;
  getOption(fd: number, level: number, option: number, value: Int32Array, size: Int32Array): number;
  duplicate(fd: number, from: number): number;
}

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SHUT_RDWR = 2;
const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;
const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;

export const POLLIN = 0x1;
export const POLLOUT = 0x4;
export const POLLERR = 0x8;
export const POLLHUP = 0x10;

let selected: SocketCalls | undefined;

/** Loads the calls now and not with the first one; `loadSystemCalls` says why. */
export function loadSocketCalls(): void {
  calls();
}

function calls(): SocketCalls {
  return (selected ??= withoutNativeCalls() ? missingCalls : loadNativeSocketCalls());
}

const missing = (): number => -ENOSYS;
const missingCalls: SocketCalls = {
  socket: missing,
  socketpair: missing,
  bind: missing,
  listen: missing,
  connect: missing,
  shutdown: missing,
  recv: missing,
  send: missing,
  poll: missing,
  epollCreate: missing,
  epollControl: missing,
  epollWait: missing,
  eventfd: missing,
  read: missing,
  write: missing,
  setOption: missing,
  getOption: missing,
  duplicate: missing,
};

/** A stream socket that never blocks, close-on-exec. `domain` is AF_UNIX, AF_INET or AF_INET6. */
export function openSocket(domain: number): number {
  return calls().socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/** Two connected Unix stream sockets that never block, or a negative errno. */
export function openSocketPair(): readonly [number, number] | number {
  const pair = new Int32Array(2);
  const result = calls().socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
  return result < 0 ? result : [pair[0], pair[1]];
}

/** 0, or an errno: EADDRINUSE where there is somebody or something. A Unix socket's file gets the socket's own mode. */
export function bindSocket(fd: number, address: Uint8Array): Errno {
  return errnoOf(calls().bind(fd, address));
}

/** @param backlog how many may wait until they are accepted */
export function listenSocket(fd: number, backlog: number): Errno {
  return errnoOf(calls().listen(fd, backlog));
}

/** 0, or an errno: EINPROGRESS means that the socket is writable when it is decided, and `socketError` tells how. */
export function connectSocket(fd: number, address: Uint8Array): Errno {
  const system = calls();
  for (;;) {
    const result = system.connect(fd, address);
    if (result !== -EINTR) return errnoOf(result);
  }
}

/** No bytes pass any more in either direction; whoever waits for the socket wakes up. The descriptor stays open. */
export function shutdownSocket(fd: number): Errno {
  return errnoOf(calls().shutdown(fd, SHUT_RDWR));
}

/** Bytes received (0: the peer has ended), -EAGAIN where there are none, or another negative errno. */
export function receiveBytes(fd: number, buffer: Uint8Array): number {
  const system = calls();
  for (;;) {
    const result = system.recv(fd, buffer, MSG_DONTWAIT);
    if (result !== -EINTR) return result;
  }
}

/** Bytes taken (maybe fewer than given), -EAGAIN where there is no room, or another negative errno; never a signal. */
export function sendBytes(fd: number, buffer: Uint8Array): number {
  const system = calls();
  for (;;) {
    const result = system.send(fd, buffer, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (result !== -EINTR) return result;
  }
}

/** The error that a socket has met and nobody has been told of; 0 if there is none. */
export function socketError(fd: number): Errno {
  const value = new Int32Array(1);
  const result = calls().getOption(fd, SOL_SOCKET, SO_ERROR, value, Int32Array.of(4));
  return result < 0 ? -result : value[0];
}

/** Small packets go at once. EOPNOTSUPP or EINVAL for a socket that is not TCP. */
export function setNoDelay(fd: number): Errno {
  return errnoOf(calls().setOption(fd, IPPROTO_TCP, TCP_NODELAY, Int32Array.of(1)));
}

/** Asks the kernel for buffers of this many bytes each way; it gives what it allows. */
export function setSocketBuffers(fd: number, bytes: number): Errno {
  const value = Int32Array.of(bytes);
  const system = calls();
  return errnoOf(
    system.setOption(fd, SOL_SOCKET, SO_SNDBUF, value) || system.setOption(fd, SOL_SOCKET, SO_RCVBUF, value),
  );
}

/** Another descriptor of the same open file, close-on-exec; a negative errno where there is none. */
export function duplicateDescriptor(fd: number): number {
  return calls().duplicate(fd, 3); // not one of the standard three, should somebody have closed those
}

/**
 * Waits until a descriptor is ready for `events` (POLLIN, POLLOUT), at most `timeoutMs`.
 * @returns what it is ready for (POLLERR and POLLHUP included), 0 if the time is over or a signal came, or a negative errno
 */
export function pollDescriptor(fd: number, events: number, timeoutMs: number): number {
  // struct pollfd: int fd, short events, short revents
  pollRecord[0] = fd;
  pollRecord[1] = events;
  const result = calls().poll(pollRecord, 1, timeoutMs);
  if (result === -EINTR) return 0;
  return result <= 0 ? result : pollRecord[1] >>> 16;
}
const pollRecord = new Int32Array(2);

/** A counter that one thread waits for in `EventPoll` and others ring. Its descriptor belongs to the process. */
export function openDoorbell(): number {
  return calls().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/** Wakes who waits. A counter that is full has woken them already. */
export function ringDoorbell(fd: number): void {
  calls().write(fd, oneRing);
}
const oneRing = new Uint8Array(BigUint64Array.of(1n).buffer);

/** Back to silence, before what it announced is looked at: what comes after rings again. */
export function silenceDoorbell(fd: number): void {
  calls().read(fd, rings);
}
const rings = new Uint8Array(8);

/** sockaddr_un; undefined where the path is too long for one (108 bytes with the final zero). */
export function unixAddress(path: string): Uint8Array | undefined {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length > 107) return undefined;
  const address = new Uint8Array(2 + bytes.length + 1);
  address[0] = AF_UNIX; // little-endian, as both architectures are
  address.set(bytes, 2);
  return address;
}

/** sockaddr_in or sockaddr_in6. @param address 4 or 16 bytes */
export function internetAddress(address: Uint8Array, port: number): Uint8Array {
  const is4 = address.length === 4;
  const record = new Uint8Array(is4 ? 16 : 28);
  record[0] = is4 ? AF_INET : AF_INET6;
  record[2] = port >>> 8;
  record[3] = port & 255;
  record.set(address, is4 ? 4 : 8);
  return record;
}

/** struct epoll_event: packed on x86-64 alone. */
const EVENT_BYTES = process.arch === "x64" ? 12 : 16;
const TAG_AT = process.arch === "x64" ? 4 : 8;
const EVENTS_MAX = 64;

/**
 * Many descriptors watched by one thread; each has a number of its owner's, its *tag* (31 bits). Level-triggered.
 *
 * @example
 * const poll = EventPoll.open();
 * poll.add(fd, POLLIN, 7);
 * const count = poll.wait(1000);
 * for (let index = 0; index < count; index++) if (poll.tag(index) === 7) receiveBytes(fd, buffer);
 */
export class EventPoll {
  readonly #fd: number;
  readonly #events: Uint8Array = new Uint8Array(EVENTS_MAX * EVENT_BYTES);
  readonly #view: DataView = new DataView(this.#events.buffer);
  readonly #one: Uint8Array = new Uint8Array(EVENT_BYTES);
  readonly #oneView: DataView = new DataView(this.#one.buffer);

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Or a negative errno. */
  static open(): EventPoll | number {
    const fd = calls().epollCreate(EPOLL_CLOEXEC);
    return fd < 0 ? fd : new EventPoll(fd);
  }

  /** Its descriptor, for `closeFile`. */
  get fd(): number {
    return this.#fd;
  }

  add(fd: number, events: number, tag: number): Errno {
    return this.#control(EPOLL_CTL_ADD, fd, events, tag);
  }
  change(fd: number, events: number, tag: number): Errno {
    return this.#control(EPOLL_CTL_MOD, fd, events, tag);
  }
  /** Before the descriptor is closed: one that is duplicated elsewhere would be watched on. */
  remove(fd: number): Errno {
    return this.#control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /** @param timeoutMs -1: for ever @returns how many are ready (0: the time is over, or a signal came), or a negative errno */
  wait(timeoutMs: number): number {
    const result = calls().epollWait(this.#fd, this.#events, EVENTS_MAX, timeoutMs);
    return result === -EINTR ? 0 : result;
  }
  /** Of the `index`-th that is ready. */
  tag(index: number): number {
    return this.#view.getInt32(index * EVENT_BYTES + TAG_AT, true);
  }
  /** What it is ready for. */
  ready(index: number): number {
    return this.#view.getInt32(index * EVENT_BYTES, true);
  }

  #control(operation: number, fd: number, events: number, tag: number): Errno {
    this.#oneView.setInt32(0, events, true);
    this.#oneView.setInt32(TAG_AT, tag, true);
    return errnoOf(calls().epollControl(this.#fd, operation, fd, this.#one));
  }
}

function errnoOf(result: number): Errno {
  return result < 0 ? -result : 0;
}
