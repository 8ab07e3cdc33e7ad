/**
 * Looks whether a file is an image of a format that is not raw. Such a one served as raw would show a guest the format's
 * own tables as its disk, and the guest's first write would destroy them. So it is refused unless `--format raw` says that
 * the bytes are meant. It is never interpreted: a guest may write such a beginning to its raw disk, and that must not make
 * us open anything.
 */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { CommandError } from "../command-error.ts";
import { quoted } from "../shell-words.ts";

/** Where a format shows, and how. */
const MAGICS: ReadonlyArray<{ readonly format: string; readonly at: number; readonly bytes: string }> = [
  { format: "qcow2", at: 0, bytes: "QFI\xfb" },
  { format: "qed", at: 0, bytes: "QED\0" },
  { format: "vmdk", at: 0, bytes: "KDMV" },
  { format: "vhdx", at: 0, bytes: "vhdxfile" },
  { format: "vpc", at: 0, bytes: "conectix" },
  { format: "vdi", at: 64, bytes: "\x7f\x10\xda\xbe" },
];
const HEAD_BYTES = 512;

/** @throws CommandError */
export function refuseOtherFormats(path: string): void {
  const format = formatOf(path);
  if (format === undefined) return;
  throw new CommandError(`'${path}' looks like a ${format} image, and only raw disks are served`, [
    `Convert it: qemu-img convert -O raw ${quoted(path)} ${quoted(`${path}.raw`)}`,
    "If its bytes themselves are the disk, say so: --format raw",
  ]);
}

/** What cannot be opened is not told here: opening it in earnest says why. */
function formatOf(path: string): string | undefined {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status === undefined || (!status.isFile() && !status.isBlockDevice())) return undefined;
  let head: string;
  try {
    const fd = openSync(path, "r");
    const buffer = Buffer.alloc(HEAD_BYTES);
    const length = readSync(fd, buffer, 0, HEAD_BYTES, 0);
    closeSync(fd);
    head = buffer.toString("latin1", 0, length);
  } catch {
    return undefined;
  }
  return MAGICS.find(({ at, bytes }) => head.startsWith(bytes, at))?.format;
}
