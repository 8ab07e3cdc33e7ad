/**
 * A database works on a disk while the disk is backed up, once in full and then incrementally. Every backup is restored
 * and opened like a database after a power cut. It must recover to exactly one committed transaction: none that was
 * acknowledged before the freeze is lost, none that began after it is there, and every balance is what a plain model says.
 */
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random, seedFromArguments } from "@heirloom/example-seed";
import { createRuntime, type Disk, type Runtime } from "@heirloom/runtime";
import { accounts, Database, databaseBytes, openingBalance } from "./database.ts";

const backups = 6;
/** Bytes a second: slow enough that the database gets a lot done during each backup. */
const speed = 4 * 1024 * 1024;

interface Transfer {
  readonly from: number;
  readonly to: number;
  readonly amount: number;
}

const seed = seedFromArguments();
const directory = mkdtempSync(join(tmpdir(), "heirloom-database-"));
const mirror = join(directory, "backup.raw");

/** All transfers so far, in order: the model. Transaction n is `history[n - 1]`. */
const history: Transfer[] = [];

await using runtime = createRuntime();
const disk = await runtime.attach({
  driver: "file",
  filename: join(directory, "bank.raw"),
  create: { length: databaseBytes },
});
const database = await Database.create(disk);
await disk.bitmaps.add("daily", { granularity: 4096 });

const stop = new AbortController();
const work = keepTransferring(database, new Random(seed), stop.signal);

try {
  for (let round = 0; round < backups; round++) {
    const before = database.committed;
    const job = await runtime.backup({
      disk,
      bitmap: "daily",
      sync: round === 0 ? "full" : "incremental",
      ...(round === 0 ? { bitmapMode: "on-success" as const } : {}),
      target: { driver: "file", filename: mirror, ...(round === 0 ? { create: { length: disk.length } } : {}) },
      speed,
      // With the defaults a burst of spilled pages could fill a small /tmp; this database fits into memory.
      spill: { file: 0 },
    });
    const atMost = history.length;
    const result = await job.done;
    assert.equal(result.status, "completed", result.error ?? "");
    const during = database.committed - before;

    const restored = join(directory, `restored-${round}.raw`);
    copyFileSync(mirror, restored);
    const recovered = await recover(runtime, restored);
    assert(recovered >= before, `transaction ${before} was acknowledged before the freeze; recovered ${recovered}`);
    assert(recovered <= atMost, `transaction ${atMost} was the last to begin; recovered ${recovered}`);
    const kind = round === 0 ? "full" : "incremental";
    console.log(
      `${kind.padEnd(11)} ${String(result.offset / 1024).padStart(5)} KiB copied, ${during} transactions meanwhile; ` +
        `restored: recovers to transaction ${recovered}, all ${accounts} balances are right`,
    );
  }
} finally {
  stop.abort();
  await work;
}
console.log(`${database.committed} transactions in all; every backup recovered to a committed one`);
await runtime.close();
rmSync(directory, { recursive: true });

async function keepTransferring(bank: Database, random: Random, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const transfer = { from: random.below(accounts), to: random.below(accounts), amount: 1 + random.below(100) };
    history.push(transfer);
    await bank.transfer(transfer.from, transfer.to, transfer.amount);
  }
}

/** Opens an image as after a power cut and compares it with the model. @returns the transaction it recovered to */
async function recover(through: Runtime, filename: string): Promise<number> {
  const image: Disk = await through.attach({ driver: "file", filename });
  const bank = await Database.open(image);
  const expected = new Float64Array(accounts).fill(openingBalance);
  for (const { from, to, amount } of history.slice(0, bank.committed)) {
    expected[from] -= amount;
    expected[to] += amount;
  }
  for (let account = 0; account < accounts; account++) {
    assert.equal(bank.balance(account), expected[account], `account ${account} at transaction ${bank.committed}`);
  }
  await image.detach();
  return bank.committed;
}
