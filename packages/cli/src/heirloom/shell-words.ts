/** Commands for people to paste. */

const PLAIN = /^[\w@%+=:,./-]+$/;

/** A word as a POSIX shell reads it back. */
export function quoted(word: string): string {
  return PLAIN.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A value inside one of QEMU's options, where a comma begins the next. */
export function qemuValue(value: string): string {
  return value.replaceAll(",", ",,");
}
