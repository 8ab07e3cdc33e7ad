/** The socket calls through koffi, in the manner of `libc-native.ts`. Imported by `sockets.ts` only. */
import { createRequire } from "node:module";
import type { SocketCalls } from "./sockets.ts";

const F_DUPFD_CLOEXEC = 1030;

export function loadNativeSocketCalls(): SocketCalls {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  const library = koffi.load(null);
  const func = (name: string, result: string, parameters: string[]): ((...values: unknown[]) => unknown) =>
    library.func(name, result, parameters) as (...values: unknown[]) => unknown;

  const socket = func("socket", "int", ["int", "int", "int"]);
  const socketpair = func("socketpair", "int", ["int", "int", "int", "void *"]);
  const bind = func("bind", "int", ["int", "const void *", "unsigned int"]);
  const listen = func("listen", "int", ["int", "int"]);
  const connect = func("connect", "int", ["int", "const void *", "unsigned int"]);
  const shutdown = func("shutdown", "int", ["int", "int"]);
  const recv = func("recv", "int64_t", ["int", "void *", "size_t", "int"]);
  const send = func("send", "int64_t", ["int", "const void *", "size_t", "int"]);
  const poll = func("poll", "int", ["void *", "unsigned long", "int"]);
  const epollCreate = func("epoll_create1", "int", ["int"]);
  const epollControl = func("epoll_ctl", "int", ["int", "int", "int", "void *"]);
  const epollWait = func("epoll_wait", "int", ["int", "void *", "int", "int"]);
  const eventfd = func("eventfd", "int", ["unsigned int", "int"]);
  const read = func("read", "int64_t", ["int", "void *", "size_t"]);
  const write = func("write", "int64_t", ["int", "const void *", "size_t"]);
  const setsockopt = func("setsockopt", "int", ["int", "int", "int", "const void *", "unsigned int"]);
  const getsockopt = func("getsockopt", "int", ["int", "int", "int", "void *", "void *"]);
  const fcntl = func("fcntl", "int", ["int", "int", "int"]);

  const answer = (result: unknown): number => ((result as number) < 0 ? -koffi.errno() : (result as number));

  return {
    socket: (domain, type, protocol) => answer(socket(domain, type, protocol)),
    socketpair: (domain, type, protocol, pair) => answer(socketpair(domain, type, protocol, pair)),
    bind: (fd, address) => answer(bind(fd, address, address.length)),
    listen: (fd, backlog) => answer(listen(fd, backlog)),
    connect: (fd, address) => answer(connect(fd, address, address.length)),
    shutdown: (fd, how) => answer(shutdown(fd, how)),
    recv: (fd, buffer, flags) => answer(recv(fd, buffer, buffer.length, flags)),
    send: (fd, buffer, flags) => answer(send(fd, buffer, buffer.length, flags)),
    poll: (records, count, timeoutMs) => answer(poll(records, count, timeoutMs)),
    epollCreate: (flags) => answer(epollCreate(flags)),
    epollControl: (epoll, operation, fd, event) => answer(epollControl(epoll, operation, fd, event)),
    epollWait: (epoll, events, count, timeoutMs) => answer(epollWait(epoll, events, count, timeoutMs)),
    eventfd: (initial, flags) => answer(eventfd(initial, flags)),
    read: (fd, buffer) => answer(read(fd, buffer, buffer.length)),
    write: (fd, buffer) => answer(write(fd, buffer, buffer.length)),
    setOption: (fd, level, option, value) => answer(setsockopt(fd, level, option, value, value.byteLength)),
    getOption: (fd, level, option, value, size) => answer(getsockopt(fd, level, option, value, size)),
    duplicate: (fd, from) => answer(fcntl(fd, F_DUPFD_CLOEXEC, from)),
  };
}
