/**
 * A bank in pages, with a write-ahead log: what a database asks of a disk, in a hundred lines.
 *
 * | where | what |
 * |---|---|
 * | page 0 | header: the last transaction whose pages are all in place |
 * | pages 1 to 192 | log: transaction n takes three pages at slot n mod 64: a record and images of two pages |
 * | from page 256 | accounts: 512 balances a page |
 *
 * Order is everything: a record is flushed before a page that it changes is written, and pages are flushed before the
 * header says so. So a disk that is cut off at *any* instant recovers to a committed transaction. A backup is such a cut.
 */
import { crc32 } from "node:zlib";

/** What it asks of a disk; `Disk` of the runtime is one. */
export interface Storage {
  read(buffer: Uint8Array, offset: number): Promise<void>;
  write(buffer: Uint8Array, offset: number): Promise<void>;
  flush(): Promise<void>;
}

export const accountPages = 64;
const pageSize = 4096;
const balancesPerPage = pageSize / 8;
export const accounts: number = accountPages * balancesPerPage;
const logSlots = 64;
const firstAccountPage = 256;
export const openingBalance = 1000;
/** Transactions between two checkpoints: less than the log holds. */
const checkpointEvery = 32;
export const databaseBytes: number = (firstAccountPage + accountPages) * pageSize;

export class Database {
  readonly #storage: Storage;
  readonly #pages: Float64Array[];
  /** Pages that changed since the last checkpoint. */
  readonly #dirty = new Set<number>();
  #committed = 0;

  private constructor(storage: Storage, pages: Float64Array[]) {
    this.#storage = storage;
    this.#pages = pages;
  }

  static async create(storage: Storage): Promise<Database> {
    const pages = Array.from({ length: accountPages }, () => new Float64Array(balancesPerPage).fill(openingBalance));
    const database = new Database(storage, pages);
    for (let page = 0; page < accountPages; page++) database.#dirty.add(page);
    await database.checkpoint();
    return database;
  }

  /** Recovers: redoes every whole record that follows the header's transaction. */
  static async open(storage: Storage): Promise<Database> {
    const pages: Float64Array[] = [];
    for (let page = 0; page < accountPages; page++) {
      const balances = new Float64Array(balancesPerPage);
      await storage.read(bytesOf(balances), (firstAccountPage + page) * pageSize);
      pages.push(balances);
    }
    const database = new Database(storage, pages);
    const header = new Float64Array(balancesPerPage);
    await storage.read(bytesOf(header), 0);
    if (header[1] !== checksum(header.subarray(0, 1))) throw new Error("open database: the header is damaged");
    database.#committed = header[0];
    while (await database.#redo(database.#committed + 1)) database.#committed++;
    return database;
  }

  /** The last transaction that is durable. */
  get committed(): number {
    return this.#committed;
  }

  balance(account: number): number {
    return this.#pages[Math.floor(account / balancesPerPage)][account % balancesPerPage];
  }

  /** Durable when this resolves. One at a time. */
  async transfer(from: number, to: number, amount: number): Promise<void> {
    const number = this.#committed + 1;
    const touched = [from, to].map((account) => Math.floor(account / balancesPerPage));
    this.#pages[touched[0]][from % balancesPerPage] -= amount;
    this.#pages[touched[1]][to % balancesPerPage] += amount;
    const record = new Float64Array(3 * balancesPerPage);
    record.set([number, ...touched]);
    touched.forEach((page, at) => record.set(this.#pages[page], (at + 1) * balancesPerPage));
    record[3] = recordChecksum(record);
    await this.#storage.write(bytesOf(record), logOffset(number));
    await this.#storage.flush();
    this.#committed = number;
    for (const page of touched) this.#dirty.add(page);
    // Pages go to their places some time later, in any order: the log has them.
    const written = touched.filter((page) => page % 2 === number % 2);
    await Promise.all(written.map((page) => this.#writePage(page)));
    if (number % checkpointEvery === 0) await this.checkpoint();
  }

  async checkpoint(): Promise<void> {
    await Promise.all([...this.#dirty].map((page) => this.#writePage(page)));
    await this.#storage.flush();
    this.#dirty.clear();
    const header = new Float64Array(balancesPerPage);
    header[0] = this.#committed;
    header[1] = checksum(header.subarray(0, 1));
    await this.#storage.write(bytesOf(header), 0);
    await this.#storage.flush();
  }

  async #redo(number: number): Promise<boolean> {
    const record = new Float64Array(3 * balancesPerPage);
    await this.#storage.read(bytesOf(record), logOffset(number));
    if (record[0] !== number || record[3] !== recordChecksum(record)) return false;
    this.#pages[record[1]].set(record.subarray(balancesPerPage, 2 * balancesPerPage));
    this.#pages[record[2]].set(record.subarray(2 * balancesPerPage));
    return true;
  }

  async #writePage(page: number): Promise<void> {
    await this.#storage.write(bytesOf(this.#pages[page].slice()), (firstAccountPage + page) * pageSize);
  }
}

function logOffset(number: number): number {
  return (1 + (number % logSlots) * 3) * pageSize;
}

/** Of a record, as if its checksum's place were 0. */
function recordChecksum(record: Float64Array): number {
  const copy = record.slice();
  copy[3] = 0;
  return checksum(copy);
}

function checksum(numbers: Float64Array): number {
  return crc32(bytesOf(numbers)) + 1; // never 0: empty space is no record
}

function bytesOf(numbers: Float64Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
