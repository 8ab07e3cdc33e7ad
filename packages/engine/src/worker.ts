/** The entry of the engine's threads: names of tasks, nothing else. */
export { closeFileTask, closeTask, flushTask, foldTask, openTask, resizeTask, spillFileTask, statusTask } from "./helper-tasks.ts";
export { serveIo } from "./io-server.ts";
export { move } from "./mover-task.ts";
