/** Clients that come in through real sockets: who is served, who waits, who is shown out, and what that leaves behind. */
import { lstatSync, readdirSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { closeFile } from "@heirloom/block";
import { describe, expect, onTestFinished, test } from "vitest";
import type { BoundAddress } from "../../dist/server/listener.js";
import { Reception } from "../../dist/server/reception.js";
import { startPeer } from "../peer.fixture.ts";
import { scratchDirectory } from "../tool.fixture.ts";
import { Directory, offerOf, usualDirectory } from "./handshake.fixture.ts";
import { clientFlags, exportName, greetingText, info, opt, option, parseReplies, tell } from "./option-wire.fixture.ts";
import { descriptors, open, type Place, RawClient } from "./reception.fixture.ts";

const go = Buffer.concat([clientFlags(), info(opt.go, "disk")]);

/** What a session finds on its descriptor, to its end. */
async function readToEnd(fd: number): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of new Socket({ fd })) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("latin1");
}

async function beginSession(place: Place): Promise<{ client: RawClient; release: () => void; fd: number }> {
  const client = new RawClient({ path: place.path });
  client.send(go);
  const { fd, release } = await place.sessions.next();
  onTestFinished(() => void closeFile(fd));
  return { client, release, fd };
}

describe("addresses", () => {
  const greets = async (address: BoundAddress): Promise<string> =>
    (await new RawClient(address).read(18)).toString("latin1");

  test("any number of them: Unix paths, IPv4 and IPv6, ports that are free", async () => {
    const { reception, directory, path } = await open();
    const second = await reception.listen({ path: join(directory, "second.sock") });
    const ipv4 = await reception.listen({ host: "127.0.0.1", port: 0 });
    const ipv6 = await reception.listen({ host: "::1", port: 0 });
    expect([ipv4, ipv6]).toMatchObject([
      { host: "127.0.0.1", family: "IPv4", port: expect.any(Number) as number },
      { host: "::1", family: "IPv6" },
    ]);
    expect(reception.addresses).toEqual([{ path }, second, ipv4, ipv6]);
    for (const address of reception.addresses) expect(await greets(address)).toBe(greetingText);
  });

  test("a port that is taken is refused", async () => {
    const { reception } = await open();
    const taken = await reception.listen({ host: "127.0.0.1", port: 0 });
    if (!("port" in taken)) throw new Error("no port");
    await expect(reception.listen({ host: "127.0.0.1", port: taken.port })).rejects.toMatchObject({
      code: "ERR_NBD_LISTEN_IN_USE",
      message: `listen on 127.0.0.1:${taken.port}: somebody listens there`,
    });
  });

  test.each([
    ["", 10809],
    ["127.0.0.1", -1],
    ["127.0.0.1", 65536],
    ["127.0.0.1", 1.5],
  ])("host %j with port %d is refused", async (host, port) => {
    const { reception } = await open();
    await expect(reception.listen({ host, port })).rejects.toMatchObject({ code: "ERR_NBD_LISTEN_ADDRESS" });
  });

  test("a host that is not ours is refused in the system's words", async () => {
    const { reception } = await open();
    await expect(reception.listen({ host: "192.0.2.1", port: 0 })).rejects.toMatchObject({
      code: "ERR_NBD_LISTEN",
      message: expect.stringContaining("EADDRNOTAVAIL") as string,
    });
  });

  test("peers are named for people", async () => {
    const place = await open();
    const ipv4 = await place.reception.listen({ host: "127.0.0.1", port: 0 });
    const ipv6 = await place.reception.listen({ host: "::1", port: 0 });
    for (const [address, expected] of [
      [{ path: place.path }, `unix:${place.path}`],
      [ipv4, /^127\.0\.0\.1:\d+$/],
      [ipv6, /^\[::1\]:\d+$/],
    ] as const) {
      new RawClient(address).send(go);
      const session = await place.sessions.next();
      closeFile(session.fd);
      expect(session.peer).toMatch(expected);
    }
  });

  test("closing takes the sockets' files and all descriptors with it", async () => {
    const before = descriptors();
    const { reception, directory } = await open();
    await reception.listen({ host: "127.0.0.1", port: 0 });
    await reception.close();
    expect(readdirSync(directory)).toEqual([]);
    await expect.poll(descriptors).toBe(before);
  });

  test("a server that was stopped listens no more", async () => {
    const { reception, path, directory } = await open();
    await reception.close();
    await expect(reception.listen({ path })).rejects.toThrow("stopped");
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe("the way to a session", () => {
  test("greeting, options, and then the descriptor with what was agreed", async () => {
    const place = await open();
    const client = new RawClient({ path: place.path });
    expect((await client.read(18)).toString("latin1")).toBe(greetingText);
    client.send(clientFlags(), option(opt.structuredReply));
    expect(tell(parseReplies(await client.read(20)))).toEqual(["ack"]);
    client.send(info(opt.go, ""));
    const session = await place.sessions.next();
    expect(session).toMatchObject({ negotiated: { offer: { name: "" }, structured: true }, tls: undefined });
    expect(session.unread).toHaveLength(0);
    const socket = new Socket({ fd: session.fd });
    socket.end("from the session");
    expect((await client.readAll()).toString("latin1")).toMatch(/from the session$/);
  });

  test.each([0, 1, 27, 28, 5000, 300_000])("no byte is lost that follows GO at once (%i bytes)", async (length) => {
    const place = await open();
    const client = new RawClient({ path: place.path });
    const requests = Buffer.alloc(length, "0123456789abcdef");
    client.send(go, requests);
    client.socket.end();
    const { fd, unread } = await place.sessions.next();
    expect(Buffer.from(unread).toString("latin1") + (await readToEnd(fd))).toBe(requests.toString("latin1"));
  });

  test("nor one that comes in the middle of the handover", async () => {
    const place = await open();
    for (let round = 0; round < 50; round++) {
      const client = new RawClient({ path: place.path });
      client.send(clientFlags());
      await client.read(18);
      // Two writes: the second is on its way while the first is answered.
      client.socket.write(info(opt.go, "disk"));
      client.socket.end("first request, second request");
      const { fd, unread } = await place.sessions.next();
      expect(Buffer.from(unread).toString() + (await readToEnd(fd))).toBe("first request, second request");
    }
  });

  test("nor one that comes while the client does not read our answers", async () => {
    const place = await open({ directory: new Directory(offerOf("disk", { description: "x".repeat(4000) })) });
    const client = new RawClient({ path: place.path });
    // 2 MB of answers, more than the kernel holds, so that the one to GO still waits when the requests come.
    client.send(clientFlags(), ...Array.from({ length: 500 }, () => option(opt.list)), info(opt.go, "disk"));
    await client.read(18 + 20);
    client.socket.pause();
    await new Promise<void>((resolve) => client.socket.write("first request, ", () => resolve()));
    for (let turns = 0; turns < 10; turns++) await new Promise((resolve) => setImmediate(resolve));
    client.socket.end("second request");
    client.socket.resume();
    const { fd, unread } = await place.sessions.next();
    expect(Buffer.from(unread).toString() + (await readToEnd(fd))).toBe("first request, second request");
  });

  test("a session that cannot be taken is closed, and its place is free", async () => {
    const refused: string[] = [];
    const { path, reception } = await open({
      onSession: () => {
        throw new Error("no thread");
      },
      onRefused: ({ reason }) => refused.push(reason),
    });
    const before = descriptors();
    const client = new RawClient({ path });
    client.send(go);
    await client.closed;
    expect(refused).toEqual(["no thread"]);
    expect(reception.connections).toBe(0);
    await expect.poll(descriptors).toBe(before);
  });
});

describe("clients that are no good cost nobody anything", () => {
  test("one that hangs up after any number of bytes leaves no descriptor", async () => {
    const place = await open();
    const before = descriptors();
    const bytes = Buffer.concat([clientFlags(), option(opt.structuredReply), info(opt.info, "disk")]);
    for (let length = 0; length <= bytes.length; length++) {
      const client = new RawClient({ path: place.path });
      client.socket.end(bytes.subarray(0, length));
      expect(await place.refused.next()).toMatchObject({ code: "ERR_NBD_DISCONNECTED" });
      await client.closed;
    }
    await expect.poll(descriptors).toBe(before);
    expect(place.reception.connections).toBe(0);
  });

  test("one that resets the connection while it is answered leaves no descriptor", async () => {
    const place = await open();
    const address = await place.reception.listen({ host: "127.0.0.1", port: 0 });
    const before = descriptors();
    for (let round = 0; round < 20; round++) {
      const client = new RawClient(address);
      client.send(clientFlags(), ...Array.from({ length: 100 }, () => option(opt.list)));
      await client.read(18);
      client.socket.resetAndDestroy();
      expect(await place.refused.next()).toMatchObject({ code: "ERR_NBD_DISCONNECTED" });
    }
    await expect.poll(descriptors).toBe(before);
  });

  test.each([
    ["rubbish", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "ERR_NBD_PROTOCOL"],
    ["an unknown export", Buffer.concat([clientFlags(), exportName("nothing")]), "ERR_NBD_REFUSED"],
    ["a good bye", Buffer.concat([clientFlags(), option(opt.abort)]), "ERR_NBD_ABORTED"],
  ])("%s ends the connection, and we know why", async (_, bytes, code) => {
    const place = await open();
    const before = descriptors();
    const client = new RawClient({ path: place.path });
    client.send(bytes);
    expect(await place.refused.next()).toMatchObject({ code, peer: `unix:${place.path}` });
    await client.closed;
    await expect.poll(descriptors).toBe(before);
  });

  test("one that says nothing is shown out at the deadline", async () => {
    const place = await open({ handshakeTimeoutMs: 50 });
    const before = descriptors();
    const client = new RawClient({ path: place.path });
    expect(await place.refused.next()).toMatchObject({
      code: "ERR_NBD_TIMEOUT",
      reason: "no transmission after 50 ms",
    });
    await client.closed;
    await expect.poll(descriptors).toBe(before);
  });

  test("one that sends a byte now and then is shown out at the same deadline", async () => {
    const place = await open({ handshakeTimeoutMs: 200 });
    const client = new RawClient({ path: place.path });
    let sent = 0;
    const drip = setInterval(() => client.send(go.subarray(sent, ++sent)), 10);
    const started = performance.now();
    expect(await place.refused.next()).toMatchObject({ code: "ERR_NBD_TIMEOUT" });
    clearInterval(drip);
    expect(performance.now() - started).toBeGreaterThan(150);
    expect(sent).toBeLessThan(go.length);
  });

  test("one that floods and never reads fills its own buffers and nothing of ours", async () => {
    const place = await open({ handshakeTimeoutMs: 400 });
    const client = new RawClient({ path: place.path });
    client.socket.pause();
    const lists = Buffer.concat(Array.from({ length: 1000 }, () => option(opt.list)));
    client.send(clientFlags());
    const before = process.memoryUsage().arrayBuffers;
    let sent = 0;
    const flood = (): void => {
      while (!client.socket.destroyed && client.socket.writableLength < 65536) {
        client.socket.write(lists);
        sent += lists.length;
      }
    };
    client.socket.on("drain", flood);
    flood();
    expect(await place.refused.next()).toMatchObject({ code: "ERR_NBD_TIMEOUT" });
    expect(sent).toBeGreaterThan(65536);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 * 1024 * 1024);
  });

  test("more of them than there are descriptors, and the next one is served", async () => {
    const directory = scratchDirectory();
    const path = join(directory, "s");
    const module = new URL("../../dist/server/reception.js", import.meta.url).href;
    const program = `
      const { Reception } = await import(${JSON.stringify(module)});
      const directory = { list: () => [], find: () => undefined };
      const reception = new Reception({ directory, onSession() {} });
      await reception.listen({ path: ${JSON.stringify(path)} });`;
    const command = `ulimit -n 50; exec "$0" --input-type=module -e "$1"`;
    const server = await startPeer(path, "sh", "-c", command, process.execPath, program);
    const clients = Array.from({ length: 80 }, () => new RawClient({ path }));
    const greeted = await Promise.all(
      clients.map((client) =>
        client.read(18).then(
          () => true,
          () => false,
        ),
      ),
    );
    expect(greeted).toContain(true);
    expect(greeted).toContain(false);
    for (const client of clients) client.socket.destroy();
    expect((await new RawClient({ path }).read(18)).toString("latin1")).toBe(greetingText);
    expect(server.exitCode).toBeNull();
  });

  test("among a hundred bad ones a good one is served", async () => {
    const place = await open({ connectionsMax: 200 });
    const before = descriptors();
    const bad = Array.from({ length: 100 }, (_, index) => {
      const client = new RawClient({ path: place.path });
      if (index % 3 === 0) client.send(Buffer.alloc(1000, index));
      if (index % 3 === 1) client.send(go.subarray(0, index % go.length));
      return client;
    });
    const good = new RawClient({ path: place.path });
    good.send(go);
    const { fd } = await place.sessions.next();
    closeFile(fd);
    await good.closed;
    for (const client of bad) client.socket.destroy();
    await expect.poll(() => place.reception.connections).toBe(1);
    await expect.poll(descriptors).toBe(before);
  });
});

describe("connectionsMax", () => {
  test("one above it waits without a greeting and without a descriptor of ours, and is served when another leaves", async () => {
    const place = await open({ connectionsMax: 2 });
    const first = await beginSession(place);
    await beginSession(place);
    const before = descriptors();
    const third = new RawClient({ path: place.path });
    const greeting = third.read(18);
    await new Promise((resolve) => third.socket.once("connect", resolve)).then(() => undefined);
    // Only the client's own.
    expect(descriptors()).toBe(before + 1);
    expect(place.reception.connections).toBe(2);
    first.release();
    expect((await greeting).toString("latin1")).toBe(greetingText);
    first.release(); // counts once
    expect(place.reception.connections).toBe(2);
  });

  test("is of all listeners together", async () => {
    const place = await open({ connectionsMax: 1 });
    const other = await place.reception.listen({ host: "127.0.0.1", port: 0 });
    const { release } = await beginSession(place);
    const waiting = new RawClient(other);
    const greeting = waiting.read(18);
    await new Promise((resolve) => waiting.socket.once("connect", resolve)).then(() => undefined);
    expect(place.reception.connections).toBe(1);
    release();
    await greeting;
  });

  test("a listener that is added while the server is full waits too", async () => {
    const place = await open({ connectionsMax: 1 });
    const { release } = await beginSession(place);
    const client = new RawClient(await place.reception.listen({ path: join(place.directory, "late.sock") }));
    const greeting = client.read(18);
    await new Promise((resolve) => client.socket.once("connect", resolve)).then(() => undefined);
    expect(place.reception.connections).toBe(1);
    release();
    await greeting;
  });

  test("silent clients that hold all places leave them one by one when somebody could need them", async () => {
    const place = await open({ connectionsMax: 2, patienceMs: 50 });
    const silent = [new RawClient({ path: place.path }), new RawClient({ path: place.path })];
    for (const client of silent) await client.read(18);
    const good = new RawClient({ path: place.path });
    good.send(go);
    expect(await place.refused.next()).toMatchObject({ code: "ERR_NBD_LIMIT" });
    closeFile((await place.sessions.next()).fd);
    expect(place.refused.length).toBeLessThan(2);
  });

  test("a burst of more than that is accepted as places are free, and nobody is lost", async () => {
    const place = await open({ connectionsMax: 3 });
    const clients = Array.from({ length: 20 }, () => {
      const client = new RawClient({ path: place.path });
      client.send(go);
      return client;
    });
    for (let served = 0; served < 20; served++) {
      const session = await place.sessions.next();
      expect(place.reception.connections).toBeLessThanOrEqual(3);
      closeFile(session.fd);
      session.release();
    }
    await Promise.all(clients.map((client) => client.closed));
    expect(place.reception.connections).toBe(0);
  });
});

describe("stopping", () => {
  test("who negotiates hears ERR_SHUTDOWN, and who then says good bye is acknowledged", async () => {
    const place = await open();
    const client = new RawClient({ path: place.path });
    await client.read(18);
    client.send(clientFlags(), option(opt.structuredReply));
    await client.read(20);
    const closed = place.reception.close();
    client.send(option(opt.list), option(opt.abort));
    expect(tell(parseReplies(await client.readAll()))).toEqual(["errShutdown The server is shutting down", "ack"]);
    await closed;
    expect(() => lstatSync(place.path)).toThrow("ENOENT");
  });

  test("who says nothing is shown out, and sessions go on", async () => {
    const place = await open();
    const { client, fd, release } = await beginSession(place);
    const silent = new RawClient({ path: place.path });
    await silent.read(18);
    await place.reception.close();
    await silent.closed;
    expect(await place.refused.next()).toMatchObject({ code: "ERR_NBD_SHUTDOWN" });
    expect(client.socket.destroyed).toBe(false);
    new Socket({ fd }).end("still here");
    expect((await client.readAll()).toString("latin1")).toMatch(/still here$/);
    release();
  });

  test("who waits to be accepted is turned away by the kernel", async () => {
    const place = await open({ connectionsMax: 1 });
    const { release } = await beginSession(place);
    const waiting = new RawClient({ path: place.path });
    await new Promise((resolve) => waiting.socket.once("connect", resolve)).then(() => undefined);
    await place.reception.close();
    await waiting.closed;
    release();
  });

  test("a server without listeners stops at once", async () => {
    const reception = new Reception({ directory: usualDirectory(), onSession: () => undefined });
    await reception.close();
    await reception.close();
  });
});
