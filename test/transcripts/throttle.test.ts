/** Throttle groups: what guests get of a budget that they share, of qemu-storage-daemon 7.2 and of ours in the same run. */
import { join } from "node:path";
import { NbdClient } from "@heirloom/nbd";
import { expect, onTestFinished, test, type TestContext } from "vitest";
import { Both } from "./both.ts";

const requestsPerSecond = 40;
/** What may pass at once: as much as passes in a second. So a machine that is busy may be late for that long, and nothing is lost. */
const burst = requestsPerSecond;
const seconds = 2;

interface Guest {
  readonly export: string;
  /** Requests under way at once; none: it does nothing. */
  readonly depth: number;
}

async function start(context: TestContext, limits: Readonly<Record<string, number>>): Promise<Both> {
  const both = Both.start(context);
  await both.serve();
  await both.ok("object-add", { "qom-type": "throttle-group", id: "group", limits });
  for (const name of ["one", "two", "three"]) {
    await both.ok("blockdev-add", {
      driver: "null-co",
      "node-name": `${name}-null`,
      size: 2 ** 30,
    });
    const throttled = { driver: "throttle", "node-name": name, "throttle-group": "group", file: `${name}-null` };
    await both.ok("blockdev-add", throttled);
    await both.export(name, { writable: true });
  }
  return both;
}

/** Requests a second of each guest, once the burst is spent. */
async function rates(directory: string, guests: readonly Guest[]): Promise<number[]> {
  const counts = guests.map(() => 0);
  let passed = 0;
  let counting = false;
  let over = false;
  const ends: Promise<void>[] = [];
  for (const [index, guest] of guests.entries()) {
    const client = await NbdClient.connect(`nbd+unix:///${guest.export}?socket=${join(directory, "nbd")}`);
    const data = new Uint8Array(512);
    const serve = async (): Promise<void> => {
      while (!over) {
        await client.write(data, 0);
        passed++;
        if (counting) counts[index]++;
      }
    };
    ends.push(Promise.all(Array.from({ length: guest.depth }, serve)).then(() => client.close()));
  }
  onTestFinished(() => void (over = true));
  while (passed < burst + 2) await new Promise((resolve) => setTimeout(resolve, 5));
  counting = true;
  const begun = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  counting = false;
  const took = (performance.now() - begun) / 1000;
  over = true;
  await Promise.all(ends);
  return counts.map((count) => count / took);
}

async function bothRates({ qemu, ours }: Both, guests: readonly Guest[]): Promise<number[][]> {
  return Promise.all([rates(qemu.directory, guests), rates(ours.directory, guests)]);
}

test("who does nothing leaves its share to the others, and has it when it comes back", async (context) => {
  const both = await start(context, { "iops-total": requestsPerSecond, "iops-total-max": burst });
  const guests = [
    { export: "one", depth: 16 },
    { export: "two", depth: 0 },
  ];
  // Half would be its share.
  for (const [busy] of await bothRates(both, guests)) expect(busy).toBeGreaterThan(0.7 * requestsPerSecond);
  const all = guests.map(({ export: name }) => ({ export: name, depth: 16 }));
  for (const [one, two] of await bothRates(both, all)) expect(Math.max(one / two, two / one)).toBeLessThan(3);
});

test("members that wait go on in turns, however many requests each has waiting", async (context) => {
  const both = await start(context, { "iops-total": requestsPerSecond, "iops-total-max": burst });
  const guests = [
    { export: "one", depth: 1 },
    { export: "two", depth: 12 },
  ];
  for (const [one, two] of await bothRates(both, guests)) expect(two / one).toBeLessThan(4);
});
