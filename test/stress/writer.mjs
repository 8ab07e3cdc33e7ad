/** An embedder's thread that writes its disks until it is told otherwise, or killed. */
import { workerData } from "node:worker_threads";
import { Guest } from "./guest.mjs";
import { Member } from "./member.mjs";
import { Random } from "./random.mjs";

/** @type {{ shared: import("./board.mjs").Board, writer: number, stripes: import("./stripes.mjs").Stripe[][], seed: string, port: import("node:worker_threads").MessagePort, pace: number }} */
const { shared, writer, stripes, seed, port, pace } = workerData;
const random = new Random(seed);
const member = new Member(shared, writer, port);
const fail = (/** @type {string} */ text, /** @type {object} */ details) =>
  port.postMessage({ violation: text, details: { writer, ...details } });
const guest = new Guest(shared, writer, stripes, random, fail, true);

for (let state = member.attend(); state !== "stopped"; state = member.attend()) {
  if (state === "again") continue;
  for (let count = random.spread(1, 40); count > 0 && member.undisturbed; count--) step();
  // Now and then all of the machine belongs to the others.
  if (random.chance(pace)) member.rest(random.int(1, 4));
}
member.close();

function step() {
  const request = guest.choose([...member.disks.keys()]);
  if (request === undefined) return;
  const io = member.disks.get(request.disk)?.io;
  if (io === undefined) return;
  const running = guest.begin(request);
  const errno = perform(io, request, running.data);
  guest.end(request, running, errno);
  if (request.kind !== "read" || errno !== 0) return;
  guest.judgeRead(request, running, () => {
    io.read(running.data, request.offset);
    return running.data;
  });
}

/** @param {import("../../packages/runtime/dist/index.js").GuestDisk["io"]} io @param {import("./guest.mjs").Request} request @param {Uint8Array} data */
function perform(io, request, data) {
  const { kind, offset, length, unmap } = request;
  if (kind === "write") return io.write(data, offset);
  if (kind === "read") return io.read(data, offset);
  return kind === "zero" ? io.writeZeroes(offset, length, unmap) : io.discard(offset, length);
}
