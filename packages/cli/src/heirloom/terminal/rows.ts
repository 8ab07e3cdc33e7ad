/** Columns of equal width. */

/** Rows of cells, padded; what is painted later must not be counted, so cells are plain. */
export function alignRows(rows: ReadonlyArray<readonly string[]>): readonly string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, index) => (widths[index] = Math.max(widths[index] ?? 0, cell.length)));
  return rows.map((row) =>
    row
      .map((cell, index) => cell.padEnd(widths[index]))
      .join("   ")
      .trimEnd(),
  );
}
