/**
 * A server on a real socket that keeps to the handshake and then does as a test says: it is handed each request and
 * sends what it likes.
 */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { scratchDirectory } from "./peers.fixture.ts";
import { ACK, bytes, context, greeting, infoExport, reply, UNSUP } from "./wire.fixture.ts";

export interface Request {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
  readonly payload: Buffer;
}

export interface LyingServerOptions {
  readonly form?: "simple" | "structured" | "extended";
  readonly length?: number;
  /** Transmission flags; by default everything and multi-conn. */
  readonly flags?: number;
  readonly contexts?: readonly string[];
  readonly onRequest: (request: Request, socket: Socket, connection: number) => void;
}

export interface LyingServer {
  readonly uri: string;
  readonly path: string;
  /** Of all connections, in the order in which they came. */
  readonly requests: Request[];
  connections(): number;
}

/** Accepts; each connection's bytes are the callback's. */
export async function rawServer(onConnection: (socket: Socket, connection: number) => void): Promise<LyingServer> {
  const path = join(scratchDirectory(), "liar.sock");
  let connections = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
    onConnection(socket, connections++);
  });
  server.listen(path);
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { uri: `nbd+unix:///?socket=${path}`, path, requests: [], connections: () => connections };
}

export async function lyingServer(options: LyingServerOptions): Promise<LyingServer> {
  const { form = "structured", length = 1 << 20, flags = 0xded, contexts = ["base:allocation"] } = options;
  const server = await rawServer((socket, connection) => {
    let input = Buffer.alloc(0);
    const take = (count: number): Buffer => {
      const taken = input.subarray(0, count);
      input = input.subarray(count);
      return taken;
    };
    let phase: "flags" | "options" | "requests" = "flags";
    const step = (): boolean => {
      if (phase === "flags") {
        if (input.length < 4) return false;
        take(4);
        phase = "options";
        return true;
      }
      if (phase === "options") {
        if (input.length < 16 || input.length < 16 + input.readUInt32BE(12)) return false;
        const option = input.readUInt32BE(8);
        take(16 + input.readUInt32BE(12));
        if (option === 11) socket.write(reply(option, form === "extended" ? ACK : UNSUP));
        else if (option === 8) socket.write(reply(option, form === "simple" ? UNSUP : ACK));
        else if (option === 10) {
          socket.write(bytes(...contexts.map((name, id) => reply(10, 4, context(id, name))), reply(10, ACK)));
        } else if (option === 7) {
          socket.write(bytes(reply(7, 3, infoExport(length, flags)), reply(7, ACK)));
          phase = "requests";
        } else socket.end();
        return true;
      }
      const header = form === "extended" ? 32 : 28;
      if (input.length < header) return false;
      const type = input.readUInt16BE(6);
      const requestLength = form === "extended" ? Number(input.readBigUInt64BE(24)) : input.readUInt32BE(24);
      const size = header + (type === 1 ? requestLength : 0);
      if (input.length < size) return false;
      const whole = take(size);
      const request = {
        flags: whole.readUInt16BE(4),
        type,
        cookie: whole.readBigUInt64BE(8),
        offset: Number(whole.readBigUInt64BE(16)),
        length: requestLength,
        payload: Buffer.from(whole.subarray(header)),
      };
      server.requests.push(request);
      options.onRequest(request, socket, connection);
      return true;
    };
    socket.write(greeting());
    socket.on("data", (more: Buffer) => {
      input = Buffer.concat([input, more]);
      while (step());
    });
  });
  return server;
}
