/**
 * I6's witness: a thread that writes a counter to the first disk, then the second, and so on, each only when the one before was
 * acknowledged. Any set of images of one instant has each disk's counter at most one behind the disk before it.
 */
import { workerData } from "node:worker_threads";
import * as board from "./board.mjs";
import { Member } from "./member.mjs";

/** @type {{ shared: board.Board, writer: number, places: number[], counter: number, next: number, port: import("node:worker_threads").MessagePort }} */
const { shared, writer, places, port, ...from } = workerData;
const member = new Member(shared, writer, port);
const { control } = member;
const log = new Int32Array(shared.writers[writer].log);
const { field } = board;
const sector = new Uint32Array(board.sectorBytes / 4);
const bytes = new Uint8Array(sector.buffer);
let { counter, next } = from;

for (let state = member.attend(); state !== "stopped"; state = member.attend()) {
  if (state === "again") continue;
  if (next === 0) counter++;
  if (write(next)) next = (next + 1) % places.length;
  member.rest(1);
}
member.close();

/** @param {number} disk @returns {boolean} whether the counter stands there */
function write(disk) {
  const io = member.disks.get(disk)?.io;
  if (io === undefined) return false;
  sector.fill(counter);
  const number = log[0];
  const entry = 1 + (number % board.logEntries) * board.entryWords;
  log[entry + field.what] = disk << 8;
  log[entry + field.offset] = places[disk];
  log[entry + field.length] = bytes.length;
  log[entry + field.begin] = board.tick(control);
  Atomics.store(log, entry + field.end, 0);
  Atomics.store(log, 0, number + 1);
  const errno = io.write(bytes, places[disk]);
  log[entry + field.errno] = errno;
  log[entry + field.microseconds] = -1;
  Atomics.store(log, entry + field.end, board.tick(control));
  return errno === 0;
}
