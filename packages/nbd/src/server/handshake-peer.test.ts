/** The same options to qemu-nbd and to us: the same answers, but for what is listed here. */
import { connect } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startPeer } from "../peer.fixture.ts";
import { needTool, runOrThrow, scratchDirectory } from "../tool.fixture.ts";
import { Directory, offerOf, Scene } from "./handshake.fixture.ts";
import { haggle, many, randomFrom } from "./option-sequence.fixture.ts";
import { clientFlags, opt, option, parseReplies, type Reply, rep, tell } from "./option-wire.fixture.ts";

const seed = Number(process.env.HEIRLOOM_SEED ?? (Date.now() ^ (process.pid << 8)) >>> 0);

async function startQemuNbd(directory: string): Promise<string> {
  const image = join(directory, "disk.qcow2");
  runOrThrow("qemu-img", "create", "-q", "-f", "qcow2", image, "1M");
  runOrThrow("qemu-img", "bitmap", "--add", image, "daily");
  const socket = join(directory, "qemu.sock");
  await startPeer(socket, "qemu-nbd", "-k", socket, "-x", "disk", "-t", "-A", "-B", "daily", "--shared=0", image);
  return socket;
}

/** Everything that a server answers until it closes. */
function ask(socket: string, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const connection = connect(socket, () => connection.write(bytes));
    connection.on("data", (part) => parts.push(part));
    connection.on("error", reject);
    connection.on("close", () => resolve(Buffer.concat(parts).subarray(18)));
  });
}

/** QEMU counts ids from 0 (base, depth, bitmaps) and we from 1; what counts is that they are told apart. */
function withIdsFrom1(reply: Reply): Reply {
  if (reply.type !== rep.metaContext || reply.option !== opt.setMetaContext) return reply;
  const data = Buffer.from(reply.data);
  data.writeUInt32BE(data.readUInt32BE(0) + 1);
  return { ...reply, data };
}

test(`qemu-nbd gives the same answers (seed ${seed})`, async (context) => {
  needTool(context, "qemu-nbd");
  const socket = await startQemuNbd(scratchDirectory());
  const contexts = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:daily"];
  const offer = offerOf("disk", { contexts });
  for (let round = 0; round < 150; round++) {
    const random = randomFrom(seed + round);
    const options = many(random, 8, () => haggle(random));
    const bytes = Buffer.concat([...options, option(opt.abort)]);
    const theirs = tell(parseReplies(await ask(socket, Buffer.concat([clientFlags(), bytes]))).map(withIdsFrom1));
    const ours = new Scene({ directory: new Directory(offer) }).send(bytes);
    expect(ours, `seed ${seed}, round ${round}: ${bytes.toString("latin1")}`).toEqual(theirs);
  }
});
