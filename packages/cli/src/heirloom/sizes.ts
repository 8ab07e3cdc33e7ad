/** Bytes as people read and write them: binary units, as QEMU's and nbdkit's tools have them. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** "64 KiB", "1.5 GiB": one decimal where it says something. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const tenths = Math.round(value * 10) / 10;
  if (tenths >= 1024 && unit < UNITS.length - 1) return `1 ${UNITS[unit + 1]}`;
  return `${tenths >= 100 ? Math.round(tenths) : tenths} ${UNITS[unit]}`;
}

const SIZE = /^(\d+)([kmgt]?)$/i;
const FACTORS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** "65536", "64k", "64K", "1M". Undefined where it is none. */
export function parseBytes(text: string): number | undefined {
  const match = SIZE.exec(text);
  if (match === null) return undefined;
  const bytes = Number(match[1]) * FACTORS[match[2].toLowerCase()];
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
