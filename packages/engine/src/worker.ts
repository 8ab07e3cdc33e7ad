/**
 * The entry of the engine's threads: names of tasks, and what a thread must have loaded before it says that it is ready.
 */
import { workerData } from "node:worker_threads";
import { loadSystemCalls } from "@heirloom/block";
import { serveIo as serve } from "./io-server.ts";
import { move as runMover } from "./mover-task.ts";
import { tellLoaded } from "./native-loading.ts";
import type { PoolThread, TaskAnswer } from "./pool.ts";
import { serveTask } from "./service.ts";

export {
  closeFileTask,
  closeTask,
  flushTask,
  foldTask,
  lockTask,
  unlockTask,
  moduleTask,
  openTask,
  reopenTask,
  resizeTask,
  spillFileTask,
  statusTask,
  syncFileTask,
} from "./helper-tasks.ts";

export { makeSpillTask, openSpillTask, removeSpillTask } from "./kept-spill.ts";

/** A long task that throws (a driver module, an assertion) has unwound; its thread goes on, so the error is its answer. */
function answering<Task, Value>(run: (task: Task) => Promise<Value>): (task: Task) => Promise<TaskAnswer<Value>> {
  return async (task) => {
    try {
      return { value: await run(task) };
    } catch (error) {
      return { threw: error instanceof Error ? error.message : String(error) };
    }
  };
}

export const serveIo: ReturnType<typeof answering<Parameters<typeof serve>[0], void>> = answering(serve);
export const move: ReturnType<typeof answering<Parameters<typeof runMover>[0], Awaited<ReturnType<typeof runMover>>>> =
  answering(runMover);
export const service: ReturnType<typeof answering<Parameters<typeof serveTask>[0], void>> = answering(serveTask);

// A thread that is ended while it loads a native module takes the process with it, and a pool that closes waits only for
// threads that are not ready (pool.ts). So system calls are loaded here, and not with the first one of the first task.
loadSystemCalls();
tellLoaded((workerData as PoolThread).nativeLoading);
