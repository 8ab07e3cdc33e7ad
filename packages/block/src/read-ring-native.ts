/** The calls of io_uring through koffi, by number: libc has no names for them. Imported by `read-ring.ts` only. */
import { createRequire } from "node:module";
import type { RingCalls } from "./read-ring.ts";

// The same on x86-64 and arm64.
const IO_URING_SETUP = 425;
const IO_URING_ENTER = 426;
const IO_URING_REGISTER = 427;
const PROT_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x8001;

export function loadNativeRingCalls(): RingCalls {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  const library = koffi.load(null);
  const func = (name: string, result: string, parameters: string[]): ((...values: unknown[]) => unknown) =>
    library.func(name, result, parameters) as (...values: unknown[]) => unknown;
  // Every argument of a system call is a register: the parameters say what each call puts into them.
  const setup = func("syscall", "int64_t", ["int64_t", "int64_t", "void *"]);
  const enter = func("syscall", "int64_t", [
    "int64_t",
    "int64_t",
    "int64_t",
    "int64_t",
    "int64_t",
    "int64_t",
    "int64_t",
  ]);
  const register = func("syscall", "int64_t", ["int64_t", "int64_t", "int64_t", "void *", "int64_t"]);
  const mmap = func("mmap", "intptr_t", ["intptr_t", "size_t", "int", "int", "int", "int64_t"]);

  const answer = (result: unknown): number => {
    const value = Number(result);
    return value < 0 ? -koffi.errno() : value;
  };

  return {
    setup: (entries, parameters) => answer(setup(IO_URING_SETUP, entries, parameters)),
    enter: (ring, count) => answer(enter(IO_URING_ENTER, ring, count, 0, 0, 0, 0)),
    register: (ring, operation, values, count) => answer(register(IO_URING_REGISTER, ring, operation, values, count)),
    map(ring, length, offset) {
      const address = mmap(0, length, PROT_READ_WRITE, MAP_SHARED_POPULATE, ring, offset) as number | bigint;
      return Number(address) === -1 ? -koffi.errno() : koffi.view(address, length);
    },
    addressOf: (view) => Number(koffi.address(view)),
  };
}
