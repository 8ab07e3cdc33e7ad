/** An initial RAM disk: a cpio archive of the kind that Linux unpacks ("newc", Documentation/driver-api/early-userspace). */

export interface CpioEntry {
  /** Without a leading slash. */
  readonly path: string;
  /** Type and permissions, as in st_mode. */
  readonly mode: number;
  /** What a file holds, or where a symbolic link points. */
  readonly data?: Uint8Array | string;
  /** Of a device: major and minor number. */
  readonly device?: readonly [number, number];
}

export const directory = (path: string): CpioEntry => ({ path, mode: 0o040755 });
export const program = (path: string, data: Uint8Array | string): CpioEntry => ({ path, mode: 0o100755, data });
export const characterDevice = (path: string, major: number, minor: number): CpioEntry => ({
  path,
  mode: 0o020600,
  device: [major, minor],
});

/** Directories before what is in them. */
export function cpio(entries: readonly CpioEntry[]): Uint8Array {
  return Buffer.concat(
    [...entries, { path: "TRAILER!!!", mode: 0 }].flatMap((entry, index) => record(entry, index + 1)),
  );
}

/** 110 bytes of header in hexadecimal, the name with its NUL, the data; name and data each padded to a multiple of 4. */
function record({ path, mode, data = "", device = [0, 0] }: CpioEntry, inode: number): Uint8Array[] {
  const name = Buffer.from(`${path}\0`);
  const bytes = Buffer.from(data);
  const fields = [inode, mode, 0, 0, 1, 0, bytes.length, 0, 0, device[0], device[1], name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [header, name, padding(header.length + name.length), bytes, padding(bytes.length)];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}
