/** Whether a spill file may take room on its file system. */

export interface SpaceWanted {
  readonly directory: string;
  readonly allowTmpfs: boolean;
  /** Bytes that have room, and that shall have. */
  readonly from: number;
  readonly to: number;
  /** Share of the file system that stays free. */
  readonly floor: number;
}

export function spaceRefusal(
  wanted: SpaceWanted,
  facts: { readonly isTmpfs: boolean; readonly bytesAvailable: number; readonly bytesTotal: number },
): string | undefined {
  const { directory, floor } = wanted;
  if (facts.isTmpfs && !wanted.allowTmpfs) {
    return `${directory} is a tmpfs, whose files are memory; name another directory, or allow it with spill.allowTmpfs`;
  }
  const left = facts.bytesAvailable - (wanted.to - wanted.from);
  if (left < facts.bytesTotal * floor)
    return `${directory} would have less than ${floor * 100} % free; the spill does not grow`;
  return undefined;
}
