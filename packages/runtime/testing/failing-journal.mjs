/** A process whose sidecar fails under it: its descriptor is closed behind its back, so every write and sync is EBADF. */
import { closeSync, openSync, readdirSync, readlinkSync } from "node:fs";
import { createRuntime } from "@heirloom/runtime";

const image = process.argv[2];
const runtime = createRuntime();
const events = runtime.events();
const disk = await runtime.attach({ driver: "file", filename: image }, { journal: { allowTmpfs: true } });
await disk.bitmaps.add("daily", { persistent: true });
await disk.write(new Uint8Array(4).fill(9), 0);
for (const fd of readdirSync("/proc/self/fd")) {
  let path = "";
  try {
    path = readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    continue;
  }
  if (!path.endsWith(".heirloom")) continue;
  closeSync(Number(fd));
  openSync("/dev/null", "r"); // its number is taken, and cannot be written
}
let written = false;
await disk.write(new Uint8Array(4).fill(9), 5 * 65536);
written = true;
let event;
for await (const one of events) {
  if (one.name !== "JOURNAL_FAILED") continue;
  event = one.data;
  break;
}
const { state } = disk.bitmaps.get("daily");
const { reason } = disk.bitmaps.history("daily").findLast((entry) => entry.reason !== undefined) ?? {};
await disk.write(new Uint8Array(4).fill(9), 6 * 65536);
await disk.bitmaps.remove("daily");
await disk.bitmaps.add("daily", { persistent: true });
console.log(JSON.stringify({ written, state, reason, event, readded: disk.bitmaps.get("daily").state }));
await runtime.close();
