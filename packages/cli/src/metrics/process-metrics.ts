/** What Prometheus' clients tell of every process, under the names that they have agreed on. */
import type { Exposition } from "./exposition.ts";

export function processMetrics(out: Exposition, version: string): void {
  const { user, system } = process.cpuUsage();
  out.add("heirloom_build_info", "gauge", "1, with the version.", [[{ version, node: process.versions.node }, 1]]);
  out.add("process_cpu_seconds_total", "counter", "Processor time of all threads.", [[{}, (user + system) / 1e6]]);
  out.add("process_resident_memory_bytes", "gauge", "Resident memory.", [[{}, process.memoryUsage.rss()]]);
  out.add("process_start_time_seconds", "gauge", "When the process began, since the epoch.", [
    [{}, performance.timeOrigin / 1000],
  ]);
}
