import * as fs from "node:fs";
import { createServer, type Server } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import {
  AF_INET,
  AF_UNIX,
  bindSocket,
  closeFile,
  connectSocket,
  duplicateDescriptor,
  EAGAIN,
  errnoNumber,
  EventPoll,
  internetAddress,
  listenSocket,
  openDoorbell,
  openSocket,
  openSocketPair,
  POLLHUP,
  POLLIN,
  POLLOUT,
  pollDescriptor,
  receiveBytes,
  ringDoorbell,
  sendBytes,
  setNoDelay,
  shutdownSocket,
  silenceDoorbell,
  socketError,
  unixAddress,
} from "@heirloom/block";
import { expect, onTestFinished, test } from "vitest";
import { scratchDirectory } from "./tool.fixture.ts";

function pair(): readonly [number, number] {
  const opened = openSocketPair();
  if (typeof opened === "number") throw new Error(`socketpair: ${opened}`);
  onTestFinished(() => opened.forEach((fd) => closeFile(fd)));
  return opened;
}

function eventPoll(): EventPoll {
  const poll = EventPoll.open();
  if (typeof poll === "number") throw new Error(`epoll: ${poll}`);
  onTestFinished(() => void closeFile(poll.fd));
  return poll;
}

test("bytes go through a pair and never block: none is EAGAIN, no room is EAGAIN, the end is 0", () => {
  const [left, right] = pair();
  const buffer = new Uint8Array(new SharedArrayBuffer(65536));
  expect(receiveBytes(right, buffer)).toBe(-EAGAIN);
  expect(sendBytes(left, Uint8Array.of(1, 2, 3))).toBe(3);
  expect(receiveBytes(right, buffer)).toBe(3);
  expect([...buffer.subarray(0, 3)]).toEqual([1, 2, 3]);
  let sent = 0;
  for (let taken = 0; taken >= 0; taken = sendBytes(left, buffer)) sent += taken;
  expect(sent).toBeGreaterThan(0);
  expect(sendBytes(left, buffer)).toBe(-EAGAIN);
  expect(shutdownSocket(left)).toBe(0);
  let received = 0;
  for (let taken = 1; taken > 0; received += taken) taken = receiveBytes(right, buffer);
  expect(received).toBe(sent);
  expect(receiveBytes(right, buffer)).toBe(0);
  expect(sendBytes(right, buffer)).toBe(-errnoNumber("EPIPE")!);
});

test("a wait ends when a descriptor is ready, or when its time is over", () => {
  const [left, right] = pair();
  expect(pollDescriptor(right, POLLIN, 1)).toBe(0);
  expect(pollDescriptor(right, POLLOUT, 1000)).toBe(POLLOUT);
  sendBytes(left, Uint8Array.of(1));
  expect(pollDescriptor(right, POLLIN | POLLOUT, 1000)).toBe(POLLIN | POLLOUT);
  shutdownSocket(left);
  expect(pollDescriptor(right, POLLIN, 1000) & POLLHUP).toBe(POLLHUP);
});

test("one wait watches many descriptors, each known by its tag; one that was removed is silent", () => {
  const poll = eventPoll();
  const pairs = Array.from({ length: 20 }, pair);
  pairs.forEach(([, right], index) => expect(poll.add(right, POLLIN, 1000 + index)).toBe(0));
  expect(poll.wait(0)).toBe(0);
  for (const index of [3, 17]) sendBytes(pairs[index][0], Uint8Array.of(1));
  expect(poll.wait(1000)).toBe(2);
  expect([poll.tag(0), poll.tag(1)].toSorted((a, b) => a - b)).toEqual([1003, 1017]);
  expect(poll.ready(0)).toBe(POLLIN);
  expect(poll.remove(pairs[3][1])).toBe(0);
  expect(poll.change(pairs[17][1], POLLOUT, 2 ** 31 - 1)).toBe(0);
  expect(poll.wait(1000)).toBe(1);
  expect([poll.tag(0), poll.ready(0)]).toEqual([2 ** 31 - 1, POLLOUT]);
});

test("a doorbell wakes a wait once for all its rings, until it is silenced", () => {
  const poll = eventPoll();
  const bell = openDoorbell();
  onTestFinished(() => void closeFile(bell));
  poll.add(bell, POLLIN, 1);
  ringDoorbell(bell);
  ringDoorbell(bell);
  expect(poll.wait(1000)).toBe(1);
  silenceDoorbell(bell);
  expect(poll.wait(0)).toBe(0);
  silenceDoorbell(bell); // nothing rang: no wait, no error
});

async function listening(server: Server, at: object): Promise<Server> {
  server.listen(at);
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return server;
}

test("a socket reaches a Unix path and a TCP port", async () => {
  const path = join(scratchDirectory(), "socket");
  await listening(createServer(), { path });
  const unix = openSocket(AF_UNIX);
  onTestFinished(() => void closeFile(unix));
  expect(connectSocket(unix, unixAddress(path)!)).toBe(0);
  const tcp = await listening(createServer(), { host: "127.0.0.1", port: 0 });
  const { port } = tcp.address() as { port: number };
  const internet = openSocket(AF_INET);
  onTestFinished(() => void closeFile(internet));
  expect([0, errnoNumber("EINPROGRESS")]).toContain(
    connectSocket(internet, internetAddress(Uint8Array.of(127, 0, 0, 1), port)),
  );
  expect(pollDescriptor(internet, POLLOUT, 5000)).toBe(POLLOUT);
  expect(socketError(internet)).toBe(0);
  expect(setNoDelay(internet)).toBe(0);
});

test("a Unix path where nobody listens is refused, and one that is too long is no address", () => {
  const path = join(scratchDirectory(), "nobody");
  const fd = openSocket(AF_UNIX);
  onTestFinished(() => void closeFile(fd));
  expect(connectSocket(fd, unixAddress(path)!)).toBe(errnoNumber("ENOENT"));
  expect(unixAddress("/".padEnd(108, "x"))).toBeUndefined();
  expect(unixAddress("/".padEnd(107, "x"))?.length).toBe(110);
});

test("a duplicate outlives the descriptor that it was made from, and is not inherited", () => {
  const opened = openSocketPair();
  if (typeof opened === "number") throw new Error(`socketpair: ${opened}`);
  const [left, right] = opened;
  const copy = duplicateDescriptor(right);
  onTestFinished(() => [left, copy].forEach((fd) => closeFile(fd)));
  expect(copy).toBeGreaterThan(2);
  expect(closeFile(right)).toBe(0);
  sendBytes(left, Uint8Array.of(9));
  const buffer = new Uint8Array(4);
  expect(receiveBytes(copy, buffer)).toBe(1);
  const flags = /flags:\s+(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${copy}`, "utf8"))?.[1];
  expect(Number.parseInt(flags!, 8) & 0o2000000).toBe(0o2000000); // O_CLOEXEC
});

test("a Unix socket's file has the mode of the socket that was bound, whatever the umask", () => {
  const path = join(scratchDirectory(), "s");
  const address = unixAddress(path)!;
  const fd = openSocket(AF_UNIX);
  onTestFinished(() => void closeFile(fd));
  fs.fchmodSync(fd, 0o600);
  expect(bindSocket(fd, address)).toBe(0);
  expect(fs.lstatSync(path).mode).toBe(0o140600);
  const second = openSocket(AF_UNIX);
  onTestFinished(() => void closeFile(second));
  expect(connectSocket(second, address)).toBe(errnoNumber("ECONNREFUSED"));
  expect(bindSocket(second, address)).toBe(errnoNumber("EADDRINUSE"));
  expect(listenSocket(fd, 1)).toBe(0);
  expect(connectSocket(second, address)).toBe(0);
});
