/**
 * A session thread: sleeps in one poll over its connections and a doorbell, and serves whoever is ready. What would make it
 * wait goes to helper threads, through slots of its own (work-queue.ts).
 */
import assert from "node:assert";
import { receiveMessageOnPort } from "node:worker_threads";
import {
  EAGAIN,
  EINTR,
  EINVAL,
  errnoText,
  EventPoll,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  ReadRing,
  setSocketBuffers,
  shutdownSocket,
  silenceDoorbell,
} from "@heirloom/block";
import type { ServiceThread } from "@heirloom/engine";
import { Connection, type ConnectionThread } from "./connection.ts";
import { Exported } from "./exported.ts";
import * as limits from "./limits.ts";
import type { FromSession, PostedConnection, SessionOptions, ToSession } from "./messages.ts";
import { InputBuffers } from "./input.ts";
import { OutputBlocks } from "./output-blocks.ts";
import { type Parked, type Parking, wholeOf } from "./parking.ts";
import { PayloadMemory } from "./payload-memory.ts";
import { Traffic } from "./traffic.ts";
import * as layout from "./work-layout.ts";
import { WorkQueue } from "./work-queue.ts";

const bellTag = 0;

/** Requests of one export that wait for a slot; then none that need payload memory come on top. */
const CROWD = 32;

/** Reads of cold data that one thread has under way in the kernel; a power of two. */
const RING_ENTRIES = 256;

/** An export with its requests that wait for a slot. */
interface Served {
  readonly exported: Exported;
  readonly traffic: Traffic;
  readonly connections: Set<Connection>;
  readonly waiting: Parked[];
  /** Slots that helpers have. */
  taken: number;
  /** Reads that the kernel has. */
  reading: number;
  /** Nobody is to be served any more; it is let go of when nothing uses it. */
  ending: boolean;
}

export class Session implements ConnectionThread {
  readonly input: InputBuffers = new InputBuffers();
  readonly output: OutputBlocks = new OutputBlocks();
  readonly payload: Uint8Array;
  readonly payloadView: DataView;

  readonly #thread: ServiceThread;
  readonly #options: SessionOptions;
  readonly #poll: EventPoll;
  readonly #queue: WorkQueue;
  readonly #memory: PayloadMemory;
  readonly #freeSlots: number[] = [];
  /** For reads of plain files: made for the first one; undefined where it is not to be had. */
  #ring: ReadRing | undefined;
  #ringAsked = false;
  readonly #inRing = new Map<number, { readonly parked: Parked; readonly begunMs: number }>();
  #nextRead = 0;
  readonly #parked = new Map<number, Parked>();
  /** Whose requests a parking has. */
  readonly #connectionOf = new WeakMap<Parking, Connection>();
  readonly #served = new Map<number, Served>();
  readonly #connections = new Map<number, Connection>();
  #nextTag = 1;
  readonly #starved = new Set<Connection>();
  /** Its connections are all of one disk. */
  #servesOneDisk = true;
  #ending = false;
  #lookedForHelp = 0;

  constructor(thread: ServiceThread) {
    this.#thread = thread;
    const options = thread.options as SessionOptions;
    this.#options = options;
    const poll = EventPoll.open();
    assert(typeof poll !== "number", "a process can have an epoll descriptor more");
    this.#poll = poll;
    this.#queue = new WorkQueue(options.work, options.slots);
    const owner = options.index + 1;
    this.#memory = new PayloadMemory(options.budget, owner);
    this.payload = this.#memory.bytes;
    this.payloadView = new DataView(this.payload.buffer);
    for (let slot = 0; slot < layout.SLOTS_A_THREAD; slot++) {
      this.#freeSlots.push(options.index * layout.SLOTS_A_THREAD + slot);
    }
  }

  /** Returns when it was told to end and serves nobody any more. */
  async run(): Promise<void> {
    this.#say({ type: "opened", fd: this.#poll.fd });
    this.#poll.add(this.#options.doorbell, POLLIN, bellTag);
    await this.#takeMessages(); // those that came before the doorbell was watched
    while (!this.#ending || this.#served.size > 0) {
      this.#ring?.submit();
      const ready = this.#poll.wait(this.#patienceMs());
      let rang = false;
      for (let index = 0; index < ready; index++) {
        const tag = this.#poll.tag(index);
        if (tag === bellTag) rang = true;
        else this.#serve(tag, this.#poll.ready(index));
      }
      if (rang) {
        silenceDoorbell(this.#options.doorbell);
        this.#takeAnswers();
        await this.#takeMessages();
      }
      if (this.#starved.size > 0) this.#feed();
      if (this.#parked.size > 0) this.#lookForHelp();
    }
  }

  // For connections.

  /** Whether this thread does changes of an export by itself: where they wait for nobody, and nobody else would wait for them. */
  writesItself(exported: Exported): boolean {
    return exported.prompt && this.#servesOneDisk;
  }

  isCrowded(exported: Exported): boolean {
    return this.#servedOf(exported.id).waiting.length >= CROWD;
  }
  allocate(length: number): number {
    return this.#memory.allocate(length);
  }
  takeLastPlace(): number {
    return this.#memory.takeLastPlace();
  }
  freePayload({ parking, place, placeBytes }: Parked): void {
    if (place === -1) return;
    parking.held--;
    this.#memory.free(place, placeBytes);
  }
  park(parked: Parked): void {
    const served = this.#servedOf(parked.exported.id);
    if (parked.operation === layout.workRead && this.#readByRing(parked, served)) return;
    served.waiting.push(parked);
    this.#submit(served);
  }

  /** @returns false where a helper must do it */
  #readByRing(parked: Parked, served: Served): boolean {
    const file = parked.exported.disk?.readsFrom;
    if (file === undefined) return false;
    if (!this.#ringAsked) {
      this.#ringAsked = true;
      const ring = ReadRing.open(RING_ENTRIES, this.#options.doorbell);
      if (typeof ring !== "number") {
        this.#ring = ring;
        this.#say({ type: "opened", fd: ring.fd });
      }
    }
    const tag = this.#nextRead;
    const buffer = this.payload.subarray(parked.data, parked.data + parked.length);
    if (this.#ring?.read(file.fd, buffer, parked.offset + file.shift, tag) !== true) return false;
    this.#nextRead = (tag + 1) >>> 0;
    this.#inRing.set(tag, { parked, begunMs: performance.now() });
    served.reading++;
    return true;
  }

  // Helpers.

  #submit(served: Served): void {
    const most = Math.min(layout.SLOTS_AN_EXPORT, Math.floor(layout.SLOTS_A_THREAD / this.#served.size));
    const { helpersMax } = this.#options;
    while (served.waiting.length > 0) {
      const more = served.taken < most && this.#queue.busy < helpersMax;
      if (!more && served.taken >= layout.SLOTS_FOR_ITSELF) return;
      const slot = this.#freeSlots.pop();
      if (slot === undefined) return;
      const parked = served.waiting.shift();
      assert(parked !== undefined);
      served.taken++;
      this.#parked.set(slot, parked);
      this.#fill(slot, parked);
      this.#queue.submit(slot);
      if (this.#queue.idleHelpers === 0) this.#say({ type: "helpWanted" });
    }
  }

  #readDone(tag: number, result: number, done: Answers): void {
    const asked = this.#inRing.get(tag);
    assert(asked !== undefined, "a completion is of a read that was asked for");
    const { parked, begunMs } = asked;
    const { exported, offset, length } = parked;
    this.#inRing.delete(tag);
    const served = this.#servedOf(exported.id);
    served.reading--;
    const counts = parked.transfer === undefined; // else with the others
    if (result === length) {
      if (counts) exported.disk?.readElsewhere(offset, length, begunMs, 0);
      addAnswer(done, { parked, errno: 0, found: 0 });
    } else if (result >= 0 || result === -EAGAIN || result === -EINTR || result === -EINVAL) {
      // The end of a file, a signal, or a kernel whose rings know no reads: the long way.
      served.waiting.push(parked);
      this.#submit(served);
    } else {
      if (counts) exported.disk?.readElsewhere(offset, length, begunMs, -result);
      addAnswer(done, { parked, errno: -result, found: 0 });
    }
  }

  #patienceMs(): number {
    if (this.#ring?.isBehind === true) return 1;
    if (this.#starved.size > 0) return limits.STARVED_MS;
    return this.#parked.size > 0 ? limits.UNHEARD_MS : limits.IDLE_MS;
  }

  /**
   * Two sessions may have seen the same helper asleep: it takes one's request, and if it hangs in that one nobody comes for
   * the other's. And a helper may have died when it was done and had not rung.
   */
  #lookForHelp(): void {
    const now = performance.now();
    if (now - this.#lookedForHelp < limits.UNHEARD_MS) return;
    this.#lookedForHelp = now;
    let wanted = false;
    let unheard = false;
    for (const slot of this.#parked.keys()) {
      const state = this.#queue.state(slot);
      if (state === layout.slotReady) wanted = true;
      else if (state === layout.slotDone) unheard = true;
    }
    if (wanted && this.#queue.idleHelpers === 0) this.#say({ type: "helpWanted" });
    if (unheard) this.#takeAnswers();
  }

  #fill(slot: number, parked: Parked): void {
    const { words, numbers } = this.#queue;
    words[this.#queue.field(slot, layout.operationField)] = parked.operation;
    words[this.#queue.field(slot, layout.exportField)] = parked.exported.id;
    words[this.#queue.field(slot, layout.flagsField)] = parked.flags;
    words[this.#queue.field(slot, layout.bellField)] = this.#options.doorbell;
    const at = slot * layout.slotNumbers;
    numbers[at + layout.offsetNumber] = parked.offset;
    numbers[at + layout.lengthNumber] = parked.length;
    numbers[at + layout.dataNumber] = parked.data;
    numbers[at + layout.wholeNumber] = wholeOf(parked.transfer, parked.offset);
    numbers[at + layout.arrivedNumber] = performance.timeOrigin + performance.now();
  }

  #takeAnswers(): void {
    const done: Answers = new Map();
    this.#ring?.take((tag, result) => this.#readDone(tag, result, done));
    for (const [slot, parked] of this.#parked) {
      if (this.#queue.state(slot) !== layout.slotDone) continue;
      const errno = this.#queue.get(slot, layout.errnoField);
      const found = this.#queue.number(slot, layout.lengthNumber);
      this.#parked.delete(slot);
      this.#queue.free(slot);
      this.#freeSlots.push(slot);
      this.#servedOf(parked.exported.id).taken--;
      addAnswer(done, { parked, errno, found });
    }
    if (done.size === 0) return;
    // One connection after the other: replies gather in one block, which each must have sent before the next one's turn.
    for (const [parking, answers] of done) {
      for (const { parked, errno, found } of answers) parking.unpark(parked, errno, found);
      const connection = this.#connectionOf.get(parking);
      assert(connection !== undefined, "whoever has parked is a connection");
      connection.turn();
      this.#settle(connection);
    }
    for (const served of [...this.#served.values()]) {
      this.#submit(served);
      this.#letGo(served);
    }
  }

  #feed(): void {
    const starved = [...this.#starved];
    this.#starved.clear();
    for (const connection of starved) {
      connection.parking.starved = false;
      connection.turn();
      this.#settle(connection);
    }
  }

  // Connections.

  #serve(tag: number, ready: number): void {
    const connection = this.#connections.get(tag);
    if (connection === undefined) return;
    if ((ready & POLLOUT) !== 0 && connection.isSending) connection.writable();
    else if ((ready & POLLIN) !== 0 && connection.isListening) connection.turn();
    else if ((ready & (POLLERR | POLLHUP)) !== 0) connection.die("the client is gone");
    this.#settle(connection);
  }

  /** After anything happened on a connection: watches for what it needs now, or closes it. */
  #settle(connection: Connection): void {
    if (connection.isOver) {
      this.#close(connection);
      return;
    }
    if (connection.parking.starved) this.#starved.add(connection);
    const events = (connection.isListening ? POLLIN : 0) | (connection.isSending ? POLLOUT : 0);
    if (events === connection.events) return;
    connection.events = events;
    this.#poll.change(connection.fd, events, connection.tag);
  }

  #close(connection: Connection): void {
    if (!this.#connections.delete(connection.tag)) return;
    connection.die(connection.ended ?? "closed");
    this.#starved.delete(connection);
    if (!connection.saidGoodbye) this.#withdraw(connection);
    this.#poll.remove(connection.fd);
    shutdownSocket(connection.fd);
    const served = this.#servedOf(connection.exported.id);
    served.connections.delete(connection);
    this.#countDisks();
    const reason = connection.ended ?? "closed";
    this.#say({ type: "closed", connection: connection.id, reason, requests: connection.requests });
    this.#letGo(served);
  }

  /**
   * A client that is gone without a goodbye comes back, and asks again for what was not answered. What nobody has begun to do
   * is not done: it would come late, over what the client has written since.
   */
  #withdraw({ parking, exported }: Connection): void {
    const served = this.#servedOf(exported.id);
    const waiting = served.waiting.splice(0);
    for (const parked of waiting) {
      if (parked.parking === parking) this.freePayload(parked);
      else served.waiting.push(parked);
    }
    for (const [slot, parked] of this.#parked) {
      if (parked.parking !== parking || !this.#queue.withdraw(slot)) continue;
      this.#parked.delete(slot);
      this.#freeSlots.push(slot);
      served.taken--;
      this.freePayload(parked);
    }
    this.#submit(served);
  }

  #countDisks(): void {
    const disks = new Set<string>();
    for (const { exported, connections } of this.#served.values())
      if (connections.size > 0) disks.add(exported.diskKey);
    this.#servesOneDisk = disks.size <= 1;
  }

  #open(posted: PostedConnection): void {
    const served = this.#servedOf(posted.export);
    const tag = this.#nextTag;
    this.#nextTag = tag === 2 ** 31 - 1 ? 1 : tag + 1;
    const connection = new Connection(this, posted, served.exported, served.traffic, tag);
    this.#connectionOf.set(connection.parking, connection);
    served.connections.add(connection);
    this.#countDisks();
    this.#connections.set(tag, connection);
    if (served.ending) connection.end("the export is gone");
    setSocketBuffers(posted.fd, limits.SOCKET_BYTES);
    connection.events = POLLIN;
    const errno = this.#poll.add(posted.fd, POLLIN, tag);
    if (errno !== 0) connection.die(`it cannot be watched: ${errnoText(errno)}`);
    connection.turn();
    this.#settle(connection);
  }

  // Main.

  async #takeMessages(): Promise<void> {
    for (;;) {
      const received = receiveMessageOnPort(this.#thread.port);
      if (received === undefined) return;
      const message = received.message as ToSession;
      switch (message.type) {
        case "export": {
          const exported = await Exported.open(message.export, this.#thread);
          if (exported.disk !== undefined) exported.disk.patient = false;
          const traffic = new Traffic(message.export.traffic, this.#options.index);
          const fresh = { connections: new Set<Connection>(), waiting: [], taken: 0, reading: 0, ending: false };
          this.#served.set(exported.id, { exported, traffic, ...fresh });
          break;
        }
        case "connection":
          this.#open(message.connection);
          break;
        case "endExport": {
          // Told once more to be hard, it may have been let go of already.
          const served = this.#served.get(message.export);
          if (served !== undefined) this.#endExport(served, message.hard);
          break;
        }
        case "endConnection":
          this.#endConnection(message.connection);
          break;
        case "end":
          this.#ending = true;
          break;
      }
    }
  }

  #endExport(served: Served, hard: boolean): void {
    served.ending = true;
    for (const connection of [...served.connections]) {
      if (hard) connection.die("the export was removed");
      else connection.end("the export was removed");
      this.#settle(connection);
    }
    if (hard) for (const parked of served.waiting.splice(0)) this.freePayload(parked);
    this.#letGo(served);
  }

  #endConnection(id: number): void {
    for (const connection of this.#connections.values()) {
      if (connection.id !== id) continue;
      connection.die("the server closed it");
      this.#settle(connection);
      return;
    }
  }

  #letGo(served: Served): void {
    const underWay = served.taken + served.reading + served.waiting.length;
    if (!served.ending || served.connections.size > 0 || underWay > 0) return;
    served.exported.close();
    if (this.#served.delete(served.exported.id)) this.#say({ type: "letGo", export: served.exported.id });
  }

  #servedOf(id: number): Served {
    const served = this.#served.get(id);
    assert(served !== undefined, `export ${id} was posted to this thread`);
    return served;
  }

  #say(message: FromSession): void {
    this.#thread.port.postMessage(message);
  }
}

/** What helpers and the kernel have done, for each whose requests they were. */
type Answers = Map<Parking, Answer[]>;
interface Answer {
  readonly parked: Parked;
  readonly errno: number;
  readonly found: number;
}
function addAnswer(answers: Answers, answer: Answer): void {
  const others = answers.get(answer.parked.parking);
  if (others === undefined) answers.set(answer.parked.parking, [answer]);
  else others.push(answer);
}

export async function serve(thread: ServiceThread): Promise<void> {
  await new Session(thread).run();
}
