/** The named bitmaps of all nodes: those of jobs have no names, and are nobody's to use. */
import type { QmpClient } from "@heirloom/qmp";

/** As `--json` prints it. */
export interface Bitmap {
  readonly node: string;
  readonly name: string;
  /** Bytes. */
  readonly granularity: number;
  /** Bytes that it says are dirty, in whole granules. */
  readonly count: number;
  readonly recording: boolean;
  readonly busy: boolean;
  readonly persistent: boolean;
  readonly inconsistent: boolean;
}

/** Oldest first. */
export async function bitmapsOf(qmp: QmpClient): Promise<readonly Bitmap[]> {
  const nodes = await qmp.execute("query-named-block-nodes", { flat: true });
  return [...nodes].reverse().flatMap((node) =>
    [...(node["dirty-bitmaps"] ?? [])].reverse().flatMap((bitmap) => {
      const { name, granularity, count, recording, busy, persistent, inconsistent = false } = bitmap;
      if (name === undefined || name === "") return [];
      return [{ node: node["node-name"] ?? "", name, granularity, count, recording, busy, persistent, inconsistent }];
    }),
  );
}
