/** What a long task says while it runs, on the thread's own way to main: no channel is made for a task that says nothing. */
import { parentPort } from "node:worker_threads";
import type { Seat } from "./registry.ts";

interface PoolReport {
  /** The reservation of the task: no other task ever has it, so what comes late reaches nobody else. */
  readonly reportOf: number;
  readonly report: unknown;
}

export function reportFrom({ reservation }: Seat, report: unknown): void {
  const message: PoolReport = { reportOf: reservation, report };
  parentPort?.postMessage(message);
}

export function isPoolReport(message: unknown): message is PoolReport {
  return typeof message === "object" && message !== null && "reportOf" in message;
}
