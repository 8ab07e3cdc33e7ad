/** Row 7: memory, as the kernel counts it (VmRSS), in a process of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Stage } from "../stage.mjs";

const program = fileURLToPath(new URL("../memory-process.mjs", import.meta.url));
const mib = 2 ** 20;

export const name = "memory";
export const title = "VmRSS of a process of its own";

export async function* figures({ quick }) {
  const stage = new Stage("disk");
  try {
    const { idle, helper, attached, early, late, jobs } = await run(stage, quick);
    const ours = (attached - idle) / mib;
    yield {
      row: "memory-attached",
      what: "1 TiB sparse disk, one bitmap of 64 KiB: beyond an idle runtime",
      ours,
      unit: "MiB",
      bar: "< 16 MiB",
      reached: ours < 16,
      note: `idle ${(idle / mib).toFixed(1)}, with its one helper thread ${(helper / mib).toFixed(1)}, attached ${(attached / mib).toFixed(1)} MiB; beyond runtime and thread: ${((attached - helper) / mib).toFixed(1)} MiB`,
    };
    const grown = (late - early) / mib;
    yield {
      row: "memory-jobs",
      what: `after ${jobs.late} jobs against after ${jobs.early}`,
      ours: grown,
      unit: "MiB",
      bar: "<= 8 MiB more",
      reached: grown <= 8,
      note: `${(early / mib).toFixed(1)} MiB, then ${(late / mib).toFixed(1)} MiB; incrementals of 64 clusters each`,
    };
  } finally {
    stage.close();
  }
}

async function run(stage, quick) {
  const child = spawn(process.execPath, [program, stage.directory, quick ? "quick" : "full"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`memory-process.mjs: exit status ${code}`);
  return JSON.parse(output);
}
