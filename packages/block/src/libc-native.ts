/**
 * System calls through koffi. Imported by `libc.ts` only.
 *
 * Every function answers its result, or the negative errno. errno is read right after the call: koffi saves it when
 * the C function returns and restores it as its own last act. Fixed arguments of variadic functions (open, fcntl,
 * ioctl) are passed as for plain ones, which is the same on Linux x86-64 and arm64. Views are passed as raw pointers,
 * also those on shared memory; nothing is kept after a call.
 */
import { createRequire } from "node:module";
import type { SystemCalls } from "./libc.ts";

/** struct iovec { void *base; size_t length; } as four 32-bit words, little endian. */
const IOVEC_WORDS = 4;
const RWF_NOWAIT = 8;

export function loadNativeCalls(): SystemCalls {
  // Through require: koffi is CommonJS, and threads connect their nodes synchronously.
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  const library = koffi.load(null);

  const open = library.func("open", "int", ["const char *", "int", "unsigned int"]);
  const close = library.func("close", "int", ["int"]);
  const dup3 = library.func("dup3", "int", ["int", "int", "int"]);
  const pread = library.func("pread", "int64_t", ["int", "void *", "size_t", "int64_t"]);
  const pwrite = library.func("pwrite", "int64_t", ["int", "const void *", "size_t", "int64_t"]);
  const preadv2 = library.func("preadv2", "int64_t", ["int", "const void *", "int", "int64_t", "int"]);
  const copyFileRange = library.func("copy_file_range", "int64_t", [
    "int",
    "void *",
    "int",
    "void *",
    "size_t",
    "unsigned int",
  ]);
  const fallocate = library.func("fallocate", "int", ["int", "int", "int64_t", "int64_t"]);
  const lseek = library.func("lseek", "int64_t", ["int", "int64_t", "int"]);
  const fdatasync = library.func("fdatasync", "int", ["int"]);
  const ftruncate = library.func("ftruncate", "int", ["int", "int64_t"]);
  const fstatfs = library.func("fstatfs", "int", ["int", "void *"]);
  const fcntl = library.func("fcntl", "int", ["int", "int", "void *"]);
  const ioctl = library.func("ioctl", "int", ["int", "unsigned long", "void *"]);
  const exit = library.func("_exit", "void", ["int"]);

  // koffi's functions have no types of their own.
  const answer = (result: unknown): number => ((result as number) < 0 ? -koffi.errno() : (result as number));

  // Where a buffer's memory begins: it does not move once `.buffer` was asked for, and asking koffi makes a BigInt.
  const addresses = new WeakMap<ArrayBufferLike, number>();
  const addressOf = (view: Uint8Array): number => {
    const { buffer, byteOffset } = view;
    let address = addresses.get(buffer);
    if (address === undefined) addresses.set(buffer, (address = Number(koffi.address(view)) - byteOffset));
    return address + byteOffset;
  };

  // Scratch of this thread, so that a call allocates nothing.
  const vector = new Uint32Array(IOVEC_WORDS);
  const offsetIn = new Uint32Array(2);
  const offsetOut = new Uint32Array(2);

  return {
    open: (path, flags, mode) => answer(open(path, flags, mode)),
    close: (fd) => answer(close(fd)),
    dup3: (from, to, flags) => answer(dup3(from, to, flags)),
    pread: (fd, buffer, offset) => answer(pread(fd, buffer, buffer.length, offset)),
    pwrite: (fd, buffer, offset) => answer(pwrite(fd, buffer, buffer.length, offset)),
    preadNoWait: (fd, buffer, offset) => {
      storeOffset(vector, addressOf(buffer), 0);
      storeOffset(vector, buffer.length, 2);
      return answer(preadv2(fd, vector, 1, offset, RWF_NOWAIT));
    },
    copyFileRange: (fdIn, inOffset, fdOut, outOffset, length) => {
      storeOffset(offsetIn, inOffset);
      storeOffset(offsetOut, outOffset);
      return answer(copyFileRange(fdIn, offsetIn, fdOut, offsetOut, length, 0));
    },
    fallocate: (fd, mode, offset, length) => answer(fallocate(fd, mode, offset, length)),
    lseek: (fd, offset, whence) => answer(lseek(fd, offset, whence)),
    fdatasync: (fd) => answer(fdatasync(fd)),
    ftruncate: (fd, length) => answer(ftruncate(fd, length)),
    fstatfs: (fd, record) => answer(fstatfs(fd, record)),
    fcntl: (fd, command, record) => answer(fcntl(fd, command, record)),
    ioctl: (fd, request, record) => answer(ioctl(fd, request, record)),
    exit: (code) => void exit(code),
  };
}

/** A 64-bit number as two little-endian words: a BigInt store would allocate. */
function storeOffset(words: Uint32Array, offset: number, at = 0): void {
  words[at] = offset >>> 0;
  words[at + 1] = Math.floor(offset / 2 ** 32);
}
