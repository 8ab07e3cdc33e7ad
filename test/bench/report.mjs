/**
 * What the benchmark says: one figure a line, beside its peer's in the same run and its bar.
 *
 * @typedef {object} Figure
 * @property {string} row the row's name, for `--only`
 * @property {string} what
 * @property {number} ours
 * @property {string} unit
 * @property {number} [peer] the peer's figure, same unit
 * @property {string} [peerName] or why there is none
 * @property {number} [ratio] ours / peer, if that says something
 * @property {string} [bar] in words
 * @property {boolean} [reached]
 * @property {string} [note] what belongs to the figure: percentiles, counts
 */

const columns = [
  { title: "what", width: 58 },
  { title: "ours", width: 16, right: true },
  { title: "peer, same run", width: 34 },
  { title: "ratio", width: 7, right: true },
  { title: "bar", width: 30 },
  { title: "", width: 7 },
];

/** @param {(line: string) => void} write */
export function printHead(write) {
  write(line(columns.map((column) => column.title)));
  write(line(columns.map((column) => "-".repeat(column.width))));
}

/** @param {(line: string) => void} write @param {Figure} figure */
export function printFigure(write, figure) {
  const { what, ours, unit, peer, peerName = "", ratio, bar = "", reached, note } = figure;
  const verdict = reached === undefined ? "" : reached ? "reached" : "MISSED";
  const peerText = peer === undefined ? peerName : `${amount(peer, unit)} ${peerName}`;
  write(line([what, amount(ours, unit), peerText, ratio === undefined ? "" : ratio.toFixed(2), bar, verdict]));
  if (note !== undefined) write(`    ${note}`);
}

/** @param {number} value @param {string} unit */
export function amount(value, unit) {
  if (Number.isNaN(value)) return "-";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit}`;
}

function line(cells) {
  return columns
    .map(({ width, right }, at) => (right ? cells[at].padStart(width) : cells[at].padEnd(width)))
    .join("  ")
    .trimEnd();
}
