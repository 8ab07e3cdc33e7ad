/** A process that has an image with a persistent bitmap, writes one cluster, and is killed. */
import { createRuntime } from "@heirloom/runtime";

const runtime = createRuntime();
const disk = await runtime.attach({ driver: "file", filename: process.argv[2] }, { journal: { allowTmpfs: true } });
if (disk.bitmaps.list().length === 0) await disk.bitmaps.add("daily", { persistent: true });
await disk.write(new Uint8Array(512).fill(1), 5 * 65536);
process.kill(process.pid, "SIGKILL");
