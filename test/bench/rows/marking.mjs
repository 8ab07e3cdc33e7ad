/** Row 5: what a mark costs. The bitmap package's own benchmark, run as it is. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../../packages/bitmap/bench/marking.mjs", import.meta.url));
const lines = [
  { what: "mark, sequential, already dirty", bar: 15 },
  { what: "mark, sequential, not yet dirty", bar: 30 },
];

export const name = "marking";
export const title = "marking a write, one thread";

export async function* figures() {
  const child = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  await once(child, "close");
  for (const { what, bar } of lines) {
    const found = output
      .split("\n")
      .find((line) => line.startsWith(what))
      ?.match(/([\d.]+) ns/);
    if (found === undefined || found === null) throw new Error(`marking.mjs says nothing of '${what}':\n${output}`);
    const ours = Number(found[1]);
    yield { row: name, what, ours, unit: "ns", bar: `< ${bar} ns`, reached: ours < bar };
  }
}
