/** How long this thread was ready to run and did not: what the kernel knows of it (Linux; 0 where it does not say). */
import { openSync, readSync } from "node:fs";

const text = Buffer.alloc(64);

export class RunDelay {
  constructor() {
    this.fd = open();
  }

  /** Milliseconds since the thread began. */
  read() {
    if (this.fd === undefined) return 0;
    const length = readSync(this.fd, text, 0, text.length, 0);
    return Number(text.toString("latin1", 0, length).split(" ")[1]) / 1e6;
  }
}

function open() {
  try {
    return openSync("/proc/thread-self/schedstat", "r");
  } catch {
    return undefined;
  }
}
