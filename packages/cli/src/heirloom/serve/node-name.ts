/** What a served disk is called over QMP: the export's name where QMP can say it, else what is closest to it. */

const LENGTH_MAX = 31;

/** Letters, digits, `-`, `.` and `_`, a letter first. @param isTaken among the other disks */
export function nodeNameFor(exportName: string, isTaken: (name: string) => boolean): string {
  const allowed = exportName.replaceAll(/[^A-Za-z0-9._-]/g, "-");
  const base = (/^[A-Za-z]/.test(allowed) ? allowed : `disk-${allowed}`).slice(0, LENGTH_MAX);
  let name = base;
  for (let next = 2; isTaken(name); next++) {
    const end = `-${next}`;
    name = `${base.slice(0, LENGTH_MAX - end.length)}${end}`;
  }
  return name;
}
