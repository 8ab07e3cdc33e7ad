/** What each export does at this moment, a row for each: clients, rates since the last look, what its bitmaps say. */
import type { TrafficCounts } from "@heirloom/nbd";
import { formatBytes } from "../sizes.ts";
import { alignRows } from "../terminal/rows.ts";
import { oldestFirst, type ServedDisk } from "./serving.ts";

interface Look {
  readonly at: number;
  readonly traffic: TrafficCounts;
}

export class LiveFigures {
  readonly #disks: readonly ServedDisk[];
  readonly #looks: Look[];
  readonly #rates: [read: string, written: string][];

  constructor(disks: readonly ServedDisk[]) {
    this.#disks = disks;
    this.#looks = disks.map(({ exported }) => ({ at: Number.NEGATIVE_INFINITY, traffic: exported.traffic }));
    this.#rates = disks.map(() => [rate("read", 0, 0), rate("write", 0, 0)]);
  }

  /** @param now milliseconds */
  rows(now: number): readonly string[] {
    return alignRows(
      this.#disks.map(({ disk, exported }, index) => [
        exported.name === "" ? '""' : exported.name,
        `${exported.clients} ${exported.clients === 1 ? "client" : "clients"}`,
        ...this.#ratesOf(index, now),
        // As they are now: over QMP they come and go.
        ...oldestFirst(disk).map(({ name, count }) => `${name} ${formatBytes(count)} dirty`),
      ]),
    );
  }

  /** Rates over half a second and more: over less they only flicker. */
  #ratesOf(index: number, now: number): readonly string[] {
    const before = this.#looks[index];
    const seconds = (now - before.at) / 1000;
    if (seconds >= 0.5) {
      const { traffic } = this.#disks[index].exported;
      this.#looks[index] = { at: now, traffic };
      const { bytesRead, bytesWritten, reads, writes } = before.traffic;
      this.#rates[index] = [
        rate("read", (traffic.bytesRead - bytesRead) / seconds, (traffic.reads - reads) / seconds),
        rate("write", (traffic.bytesWritten - bytesWritten) / seconds, (traffic.writes - writes) / seconds),
      ];
    }
    return this.#rates[index];
  }
}

function rate(what: string, bytes: number, requests: number): string {
  return `${what} ${formatBytes(bytes)}/s (${Math.round(requests).toLocaleString("en")}/s)`;
}
