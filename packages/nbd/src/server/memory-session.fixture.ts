/**
 * A session in a few lines, so that clients which want to see data after their handshake can be served: an export of
 * zeroes with one pattern at its start. Knows simple and structured replies, READ, BLOCK_STATUS, FLUSH and DISC.
 */
import { Socket } from "node:net";
import type { NewSession } from "../../dist/server/negotiation.js";
import { u16, u32 } from "./option-wire.fixture.ts";

export const pattern = "the first bytes of the disk";

export function serveFromMemory(session: NewSession, release: () => void): void {
  const { negotiated, unread } = session;
  const disk = Buffer.alloc(negotiated.offer.length);
  disk.write(pattern);
  const socket = new Socket({ fd: session.fd });
  let rest = Buffer.from(unread);

  const reply = (cookie: Buffer, type: number, payload: Buffer): void => {
    if (!negotiated.structured) {
      const data = type === 1 ? payload.subarray(8) : Buffer.alloc(0);
      socket.write(Buffer.concat([u32(0x67446698), u32(0), cookie, data]));
      return;
    }
    socket.write(Buffer.concat([u32(0x668e33ef), u16(1), u16(type), cookie, u32(payload.length), payload]));
  };

  const serve = (): void => {
    while (rest.length >= 28) {
      if (rest.readUInt32BE(0) !== 0x25609513) throw new Error(`no request: ${rest.toString("hex", 0, 28)}`);
      const type = rest.readUInt16BE(6);
      const cookie = rest.subarray(8, 16);
      const offset = Number(rest.readBigUInt64BE(16));
      const length = rest.readUInt32BE(24);
      rest = rest.subarray(28);
      if (type === 0) {
        const header = Buffer.alloc(8);
        header.writeBigUInt64BE(BigInt(offset));
        reply(cookie, 1, Buffer.concat([header, disk.subarray(offset, offset + length)]));
      } else if (type === 2) socket.end();
      else if (type === 7) reply(cookie, 5, Buffer.concat([u32(negotiated.contexts[0].id), u32(length), u32(0)]));
      else reply(cookie, 0, Buffer.alloc(0));
    }
  };
  socket.on("data", (bytes: Buffer) => {
    rest = Buffer.concat([rest, bytes]);
    serve();
  });
  socket.on("error", () => socket.destroy());
  socket.on("close", release);
  serve();
}
