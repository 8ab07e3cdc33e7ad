import { capabilities } from "./libc.ts";
import { loadRingCalls } from "./read-ring.ts";
import { loadSocketCalls } from "./sockets.ts";

/**
 * Loads all system calls of this thread, ahead of the first one. A thread that is ended (`terminate`) while it loads koffi, or
 * declares a function to it, takes the process with it: a thread that may be ended calls this before it says that it runs.
 */
export function loadSystemCalls(): void {
  capabilities();
  loadSocketCalls();
  loadRingCalls();
}
