/**
 * What becomes of a job's bitmap: the table of reference semantics 2.3, as data.
 *
 * P is what the bitmap said when the job started, W what guests wrote since (the successor), U what of the copy set is
 * not safely on the target, rounded to job clusters. A bitmap that does not record has an empty W; the table is the same.
 * In a group "success" is the success of all.
 */
export type Sync = "full" | "top" | "none" | "bitmap" | "incremental";
export type BitmapMode = "on-success" | "never" | "always";
export const syncs: readonly Sync[] = ["full", "top", "none", "bitmap", "incremental"];
export const bitmapModes: readonly BitmapMode[] = ["on-success", "never", "always"];

/** `refused`: it never started, so nothing was frozen. */
export type JobResult = "success" | "failure" | "refused";

/** Which bits the bitmap has afterwards. */
export type BitmapOutcome = "W" | "P|W" | "W|U" | "P";

/** Rows of the table; a pair that is not here is refused (`backup-request.ts`). */
const table: Readonly<Record<string, Readonly<Record<JobResult, BitmapOutcome>>>> = {
  "incremental on-success": { success: "W", failure: "P|W", refused: "P" },
  "bitmap on-success": { success: "W", failure: "P|W", refused: "P" },
  "bitmap never": { success: "P|W", failure: "P|W", refused: "P" },
  "bitmap always": { success: "W", failure: "W|U", refused: "P" },
  "full on-success": { success: "W", failure: "P|W", refused: "P" },
  "full always": { success: "W", failure: "W|U", refused: "P" },
  "top on-success": { success: "W", failure: "P|W", refused: "P" },
  "top always": { success: "W", failure: "W|U", refused: "P" },
};

/** Whether a bitmap can be used at all with this pair. */
export function isBitmapPair(sync: Sync, mode: BitmapMode): boolean {
  return Object.hasOwn(table, `${sync} ${mode}`);
}

/** The outcome, or `undefined` for a pair that no job has. */
export function bitmapOutcome(sync: Sync, mode: BitmapMode, result: JobResult): BitmapOutcome | undefined {
  return table[`${sync} ${mode}`]?.[result];
}

/** The bitmap machine's event that brings an outcome about; `undefined`: nothing was frozen, nothing is to be done. */
export function outcomeEvent(
  outcome: BitmapOutcome,
): { readonly type: "abdicate"; readonly uncopied: boolean } | { readonly type: "reclaim" } | undefined {
  if (outcome === "P") return undefined;
  if (outcome === "P|W") return { type: "reclaim" };
  return { type: "abdicate", uncopied: outcome === "W|U" };
}

/** The same in terms of bits, for whoever checks a result (tests, invariant I5). */
export function outcomeBits<Bits>(
  outcome: BitmapOutcome,
  bits: { readonly P: Bits; readonly W: Bits; readonly U: Bits },
  union: (a: Bits, b: Bits) => Bits,
): Bits {
  if (outcome === "P") return bits.P;
  if (outcome === "W") return bits.W;
  return outcome === "P|W" ? union(bits.P, bits.W) : union(bits.W, bits.U);
}
