/** What Prometheus is told: units are seconds and bytes, what only grows ends in _total. */
import { closedBuckets, type IoCounts, type KindCounts, type Runtime } from "@heirloom/runtime";
import { Exposition, type Labels } from "./exposition.ts";
import { processMetrics } from "./process-metrics.ts";

type Sample = readonly [Labels, number];

const kinds = ["read", "write", "flush", "discard"] as const;

/** @param version of the package */
export function collect(runtime: Runtime, version: string): string {
  const out = new Exposition();
  processMetrics(out, version);
  disks(out, runtime);
  bitmaps(out, runtime);
  jobs(out, runtime);
  exports(out, runtime);
  const { gateClosed, threads, threadsDied, sharedMemory } = runtime.figures;
  out.histogram(
    "heirloom_gate_closed_seconds",
    "Time that guests' writes were held for one transition: a freeze, an abdicate, a reclaim.",
    closedBuckets,
    gateClosed,
  );
  out.add("heirloom_threads", "gauge", "Worker threads that exist.", [[{}, threads]]);
  out.add("heirloom_threads_died_total", "counter", "Worker threads that ended in the middle of a task.", [
    [{}, threadsDied],
  ]);
  out.add("heirloom_shared_memory_bytes", "gauge", "Shared memory of bitmaps, views and tables.", [[{}, sharedMemory]]);
  return out.text;
}

function disks(out: Exposition, { disks: all }: Runtime): void {
  const counts = all.map((disk) => ({ disk: disk.name, counts: disk.counts }));
  const of = (pick: (counts: IoCounts) => number): Sample[] =>
    counts.map(({ disk, counts: one }) => [{ disk }, pick(one)]);
  const byKind = (pick: (counts: KindCounts) => number): Sample[] =>
    counts.flatMap(({ disk, counts: one }) =>
      kinds.map((operation): Sample => [{ disk, operation }, pick(one[operation])]),
    );
  out.add(
    "heirloom_disk_size_bytes",
    "gauge",
    "Length of the disk.",
    all.map((disk) => [{ disk: disk.name }, disk.length]),
  );
  out.add(
    "heirloom_disk_read_bytes_total",
    "counter",
    "Bytes that were read.",
    of(({ read }) => read.bytes),
  );
  out.add(
    "heirloom_disk_written_bytes_total",
    "counter",
    "Bytes that were written.",
    of(({ write }) => write.bytes),
  );
  out.add(
    "heirloom_disk_discarded_bytes_total",
    "counter",
    "Bytes that were discarded.",
    of(({ discard }) => discard.bytes),
  );
  out.add(
    "heirloom_disk_requests_total",
    "counter",
    "Requests that succeeded.",
    byKind(({ operations }) => operations),
  );
  out.add(
    "heirloom_disk_request_seconds_total",
    "counter",
    "Time that requests took, those that failed included.",
    byKind(({ timeNs }) => timeNs / 1e9),
  );
  out.add(
    "heirloom_disk_failed_requests_total",
    "counter",
    "Requests that failed.",
    byKind(({ failed }) => failed),
  );
  out.add(
    "heirloom_disk_refused_requests_total",
    "counter",
    "Requests out of range, or changes of what is read-only.",
    byKind(({ invalid }) => invalid),
  );
}

function bitmaps(out: Exposition, runtime: Runtime): void {
  const all = runtime.disks.flatMap((disk) =>
    disk.bitmaps.list().map((info) => ({ labels: { disk: disk.name, bitmap: info.name }, info })),
  );
  type Info = (typeof all)[number]["info"];
  const of = (pick: (info: Info) => number): Sample[] => all.map(({ labels, info }) => [labels, pick(info)]);
  out.add(
    "heirloom_bitmap_dirty_bytes",
    "gauge",
    "What the bitmap says is dirty; of a frozen one, what it said.",
    of(({ count }) => count),
  );
  out.add(
    "heirloom_bitmap_recording",
    "gauge",
    "1 if it records.",
    of(({ recording }) => Number(recording)),
  );
  out.add(
    "heirloom_bitmap_busy",
    "gauge",
    "1 if a job, an export or a view has it.",
    of(({ busy }) => Number(busy)),
  );
  out.add(
    "heirloom_bitmap_inconsistent",
    "gauge",
    "1 if what it said is lost.",
    of(({ inconsistent }) => Number(inconsistent)),
  );
}

function jobs(out: Exposition, runtime: Runtime): void {
  const { jobsStarted, jobsEnded, spills } = runtime.figures;
  const all = runtime.jobs.map(({ info }) => info);
  out.add("heirloom_jobs_started_total", "counter", "Backups that were begun.", [[{}, jobsStarted]]);
  out.add(
    "heirloom_jobs_ended_total",
    "counter",
    "Backups that have ended, by how.",
    Object.entries(jobsEnded).map(([outcome, count]) => [{ outcome }, count]),
  );
  out.add(
    "heirloom_job_state",
    "gauge",
    "1 for the state that a job is in.",
    all.map(({ id: job, status: state }) => [{ job, state }, 1]),
  );
  out.add(
    "heirloom_job_done_bytes",
    "gauge",
    "Bytes that are on the target.",
    all.map(({ id: job, offset }) => [{ job }, offset]),
  );
  out.add(
    "heirloom_job_length_bytes",
    "gauge",
    "Bytes in all.",
    all.map(({ id: job, length }) => [{ job }, length]),
  );
  out.add(
    "heirloom_job_spill_bytes",
    "gauge",
    "Old data that guests have overwritten and that is not on the target yet.",
    spills.map(({ job, bytes }) => [{ job }, bytes]),
  );
  out.add(
    "heirloom_job_spill_file_bytes",
    "gauge",
    "Bytes that the spill's file takes on disk.",
    spills.map(({ job, fileBytes }) => [{ job }, fileBytes]),
  );
}

function exports(out: Exposition, runtime: Runtime): void {
  const all = runtime.exports.map((exported) => {
    const labels = { export: exported.name, disk: exported.disk };
    return { labels, clients: exported.clients, traffic: exported.traffic };
  });
  type Export = (typeof all)[number];
  const of = (pick: (one: Export) => number): Sample[] => all.map((one) => [one.labels, pick(one)]);
  out.add(
    "heirloom_export_clients",
    "gauge",
    "NBD clients that have it open.",
    of(({ clients }) => clients),
  );
  out.add(
    "heirloom_export_read_bytes_total",
    "counter",
    "Bytes that clients asked for.",
    of(({ traffic }) => traffic.bytesRead),
  );
  out.add(
    "heirloom_export_written_bytes_total",
    "counter",
    "Bytes that clients brought.",
    of(({ traffic }) => traffic.bytesWritten),
  );
  out.add(
    "heirloom_export_requests_total",
    "counter",
    "Requests of clients, whatever became of them.",
    all.flatMap(({ labels, traffic: { reads, writes, others } }) => [
      [{ ...labels, operation: "read" }, reads] as const,
      [{ ...labels, operation: "write" }, writes] as const,
      [{ ...labels, operation: "other" }, others] as const,
    ]),
  );
}
