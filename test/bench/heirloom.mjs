// What is measured: the packages as built. By path, since the workspace's root depends on none of them.
export { createRuntime } from "../../packages/runtime/dist/index.js";
export { openDisk } from "../../packages/engine/dist/index.js";
export { copyFully, syncData } from "../../packages/block/dist/index.js";
export { SharedBitmap } from "../../packages/bitmap/dist/index.js";
