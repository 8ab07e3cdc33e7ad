/** What the kernel is asked to do, in which order: a guest's write to a cluster that a backup still needs, with a spill that is synced. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { needTool } from "../../packages/block/src/tool.fixture.ts";

const program = fileURLToPath(new URL("synced-guest.mjs", import.meta.url));
const clusterBytes = 4096;
const entryBytes = 512 + clusterBytes;

/** Of system calls that were made and are over: what, on which file, of how many bytes, where. */
function callsIn(trace: string): { call: string; file: string; bytes: number; offset: number }[] {
  const calls: { call: string; file: string; bytes: number; offset: number }[] = [];
  const begun = new Map<string, string>();
  for (const line of trace.split("\n")) {
    const [, thread = "", text = ""] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (text.endsWith("<unfinished ...>")) begun.set(thread, text.replace(" <unfinished ...>", ""));
    const whole = text.startsWith("<... ")
      ? (begun.get(thread) ?? "") + text.replace(/^<\.\.\. \w+ resumed>/, "")
      : text;
    const [, call, path, rest] = /^(pwrite64|fdatasync)\(\d+<([^>]*)>(.*)\) += \d+$/.exec(whole) ?? [];
    if (call === undefined || path === undefined) continue;
    const [, bytes = 0, offset = 0] = /, (\d+), (\d+)$/.exec(rest ?? "") ?? [];
    const file = path.endsWith(".spill") ? "spill" : path.endsWith("/vm.img") ? "image" : "other";
    calls.push({ call, file, bytes: Number(bytes), offset: Number(offset) });
  }
  return calls;
}

test("the old data is written and synced before the disk is, once for each cluster", { timeout: 60_000 }, (context) => {
  needTool(context, "strace");
  const place = mkdtempSync(join(tmpdir(), "synced-"));
  onTestFinished(() => rmSync(place, { recursive: true }));
  const [image, target, trace] = ["vm.img", "backup.img", "trace"].map((name) => join(place, name));
  for (const file of [image, target]) writeFileSync(file, new Uint8Array(2 ** 22).fill(1));
  const clusters = [300, 301, 302, 300, 500, 302];
  const words = ["-f", "-y", "-e", "trace=pwrite64,fdatasync", "-o", trace, process.execPath, program, image, target];
  execFileSync("strace", [...words, ...clusters.map(String)]);
  const calls = callsIn(readFileSync(trace, "utf8"));
  const done: number[] = [];
  let [stored, synced] = [0, 0];
  for (const { call, file, bytes, offset } of calls) {
    if (file === "spill" && call === "pwrite64" && bytes === entryBytes) stored++;
    if (file === "spill" && call === "fdatasync") synced = stored;
    if (file !== "image" || call !== "pwrite64") continue;
    done.push(offset / clusterBytes);
    expect(synced, `entries that a sync had covered when ${done.join(", ")} were written`).toBe(new Set(done).size);
  }
  expect(done).toEqual(clusters);
  expect(stored).toBe(new Set(clusters).size);
});
