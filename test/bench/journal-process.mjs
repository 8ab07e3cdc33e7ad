/** A process that has a disk of 1 TiB with a persistent bitmap, for the row `journal`: made, opened and closed, or killed. */
import { truncateSync, writeFileSync } from "node:fs";
import { createRuntime } from "./heirloom.mjs";

const [, , image, role] = process.argv;
if (role === "make") {
  writeFileSync(image, "");
  truncateSync(image, 2 ** 40);
}
const begun = performance.now();
const runtime = createRuntime();
const disk = await runtime.attach({ driver: "file", filename: image });
if (role === "make") await disk.bitmaps.add("daily", { persistent: true, granularity: 65536 });
await disk.read(new Uint8Array(4096), 0);
const milliseconds = performance.now() - begun;
// Spread over the disk, as far as the bound allows without settling.
if (role === "kill") for (let at = 0; at < 32; at++) await disk.write(new Uint8Array(4096).fill(1), at * 2 ** 35);
process.stdout.write(`${JSON.stringify({ milliseconds, count: disk.bitmaps.get("daily").count })}\n`);
if (role === "kill") setInterval(() => {}, 2 ** 30);
else await runtime.close();
