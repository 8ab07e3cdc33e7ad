/** Metrics as a scraper gets them: the format by the letter, figures against what clients did, and who may ask. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NbdClient } from "@heirloom/nbd";
import { QmpClient } from "@heirloom/qmp";
import { expect, onTestFinished, test } from "vitest";
import { parseMetricsAddress } from "../../dist/metrics/metrics-server.js";
import { run, runHeirloom, scratchDirectory, Serve } from "../heirloom/command.fixture.ts";

const daemon = fileURLToPath(new URL("../../dist/storage-daemon/main.js", import.meta.url));

interface Answer {
  readonly status: number;
  readonly type: string | undefined;
  readonly text: string;
}

function ask(
  where: { socketPath: string } | { host: string; port: number },
  path = "/metrics",
  method = "GET",
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ ...where, path, method }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode!, type: response.headers["content-type"], text }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

type Samples = Map<string, number>;

/** The text format by its specification: everything that is not in it is an error. */
function parse(text: string): { readonly types: Map<string, string>; readonly samples: Samples } {
  expect(text.endsWith("\n")).toBe(true);
  const types = new Map<string, string>();
  const samples: Samples = new Map();
  let helped = "";
  for (const line of text.split("\n").slice(0, -1)) {
    const help = /^# HELP ([a-z_:][a-z0-9_:]*) (?:[^\\\n]|\\\\|\\n)+$/.exec(line);
    if (help !== null) {
      expect(types.has(help[1]), `${help[1]} comes in one group`).toBe(false);
      helped = help[1];
      continue;
    }
    const type = /^# TYPE ([a-z_:][a-z0-9_:]*) (counter|gauge|histogram)$/.exec(line);
    if (type !== null) {
      expect(type[1]).toBe(helped);
      types.set(type[1], type[2]);
      expect(type[2] === "counter", line).toBe(type[1].endsWith("_total"));
      continue;
    }
    const sample =
      /^([a-z_:][a-z0-9_:]*)(\{[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*"(?:,[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*")*\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/.exec(
        line,
      );
    expect(sample, `'${line}' is a sample`).not.toBeNull();
    const [, name, labels = "", value] = sample!;
    expect(name === helped || (types.get(helped) === "histogram" && name.startsWith(`${helped}_`)), line).toBe(true);
    expect(samples.has(name + labels), `${name}${labels} is there once`).toBe(false);
    samples.set(name + labels, Number(value));
  }
  return { types, samples };
}

function startDaemon(...words: string[]): { readonly ready: (path: string) => Promise<void>; readonly pid: number } {
  const child = spawn(process.execPath, [daemon, ...words], { stdio: "ignore" });
  const gone = once(child, "exit");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await gone;
  });
  const ready = async (path: string): Promise<void> => {
    while (!existsSync(path)) {
      if (child.exitCode !== null) throw new Error(`the daemon has ended: ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  return { ready, pid: child.pid! };
}

test("what a scraper gets is the text format, and says what clients, bitmaps and jobs did", async () => {
  const directory = scratchDirectory();
  const at = (name: string): string => join(directory, name);
  writeFileSync(at("image"), "");
  truncateSync(at("image"), 4 * 2 ** 20);
  const { ready } = startDaemon(
    ...["--metrics", at("metrics"), "--blockdev", `file,node-name=disk,filename=${at("image")}`],
    ...["--nbd-server", `addr.type=unix,addr.path=${at("nbd")}`, "--export", "nbd,id=e,node-name=disk,writable=on"],
    ...["--chardev", `socket,id=m,path=${at("qmp")},server=on,wait=off`, "--monitor", "m"],
  );
  await ready(at("qmp"));
  expect(statSync(at("metrics")).mode & 0o777).toBe(0o600);
  const qmp = await QmpClient.connect({ path: at("qmp") });
  const odd = 'a "b"\\c\nd';
  await qmp.execute("block-dirty-bitmap-add", { node: "disk", name: odd });
  await qmp.execute("block-dirty-bitmap-add", { node: "disk", name: "daily", disabled: true });
  const client = await NbdClient.connect(`nbd+unix:///disk?socket=${at("nbd")}`);
  await client.write(new Uint8Array(4096), 65536 * 3);
  await client.read(new Uint8Array(1024), 0);
  await client.flush();
  await qmp.execute("blockdev-add", { driver: "null-co", "node-name": "t", size: 4 * 2 ** 20 });
  const backup = { device: "disk", target: "t", sync: "full" } as const;
  const events = qmp.events();
  await qmp.execute("blockdev-backup", { ...backup, "job-id": "one" });
  for await (const { name, data } of events) if (name === "JOB_STATUS_CHANGE" && data.status === "null") break;
  await qmp.execute("blockdev-backup", { ...backup, "job-id": "two", speed: 1 });
  await qmp.execute("job-pause", { id: "two" });

  const answer = await ask({ socketPath: at("metrics") });
  expect(answer).toMatchObject({ status: 200, type: "text/plain; version=0.0.4; charset=utf-8" });
  const { types, samples } = parse(answer.text);
  const expected: [string, number][] = [
    [`heirloom_disk_size_bytes{disk="disk"}`, 4 * 2 ** 20],
    [`heirloom_disk_written_bytes_total{disk="disk"}`, 4096],
    [`heirloom_disk_read_bytes_total{disk="disk"}`, 1024],
    [`heirloom_disk_requests_total{disk="disk",operation="write"}`, 1],
    [`heirloom_disk_requests_total{disk="disk",operation="flush"}`, 1],
    [`heirloom_disk_failed_requests_total{disk="disk",operation="write"}`, 0],
    [`heirloom_bitmap_dirty_bytes{disk="disk",bitmap="a \\"b\\"\\\\c\\nd"}`, 65536],
    [`heirloom_bitmap_recording{disk="disk",bitmap="daily"}`, 0],
    [`heirloom_jobs_started_total`, 2],
    [`heirloom_jobs_ended_total{outcome="completed"}`, 1],
    [`heirloom_jobs_ended_total{outcome="failed"}`, 0],
    [`heirloom_job_state{job="two",state="paused"}`, 1],
    [`heirloom_job_length_bytes{job="two"}`, 4 * 2 ** 20],
    [`heirloom_job_spill_bytes{job="two"}`, 0],
    [`heirloom_export_clients{export="disk",disk="disk"}`, 1],
    [`heirloom_export_written_bytes_total{export="disk",disk="disk"}`, 4096],
    [`heirloom_threads_died_total`, 0],
  ];
  for (const [name, value] of expected) expect(samples.get(name), name).toBe(value);
  // Two freezes and an abdicate at least; buckets only grow, and the last is the count.
  expect(types.get("heirloom_gate_closed_seconds")).toBe("histogram");
  const buckets = [...samples].filter(([name]) => name.startsWith("heirloom_gate_closed_seconds_bucket"));
  const counts = buckets.map(([, count]) => count);
  expect(counts).toEqual([...counts].sort((one, other) => one - other));
  expect(counts.at(-1)).toBe(samples.get("heirloom_gate_closed_seconds_count"));
  expect(counts.at(-1)).toBeGreaterThanOrEqual(3);
  expect(samples.get("heirloom_gate_closed_seconds_sum")).toBeGreaterThan(0);
  expect(samples.get("process_resident_memory_bytes")).toBeGreaterThan(2 ** 20);

  expect(await ask({ socketPath: at("metrics") }, "/other")).toMatchObject({ status: 404 });
  expect(await ask({ socketPath: at("metrics") }, "/metrics", "POST")).toMatchObject({ status: 405 });
  await client.close();
  qmp.close();
});

test("a daemon that has nothing yet tells of its process, and makes no runtime for it", async () => {
  const path = join(scratchDirectory(), "metrics");
  const { ready } = startDaemon("--metrics", path);
  await ready(path);
  const { samples } = parse((await ask({ socketPath: path })).text);
  expect([...samples.keys()].map((name) => name.replace(/\{.*/, ""))).toEqual([
    ...["heirloom_build_info", "process_cpu_seconds_total"],
    ...["process_resident_memory_bytes", "process_start_time_seconds"],
  ]);
  // A live socket is not taken from whoever has it.
  const { status, errors } = await run(process.execPath, [daemon, "--metrics", path]);
  expect({ status, errors }).toEqual({
    status: 1,
    errors: `heirloom-storage-daemon: --metrics ${path}: Failed to bind socket to ${path}: Address already in use\n`,
  });
});

test("heirloom serve has them on a port of this machine", async () => {
  const directory = scratchDirectory();
  const image = `json:{"driver":"memory","size":1048576}=m`;
  const serve = new Serve([image, "-s", join(directory, "s"), "--bitmap", "daily", "--metrics", "127.0.0.1:0"]);
  const { metrics } = (await serve.ready()) as unknown as { metrics: string };
  const { hostname, port } = new URL(metrics);
  const { text } = await ask({ host: hostname, port: Number(port) });
  expect(parse(text).samples.get(`heirloom_bitmap_dirty_bytes{disk="m",bitmap="daily"}`)).toBe(0);
  expect(await serve.end("SIGTERM")).toEqual({ status: 0, errors: "" });
});

test("other machines are not told: an address that they reach is refused", async () => {
  for (const [text, address] of [
    ["/run/m.sock", { path: "/run/m.sock" }],
    ["unix:m", { path: "m" }],
    ["[::1]:9100", { host: "::1", port: 9100 }],
    ["localhost:0", { host: "localhost", port: 0 }],
  ] as const)
    expect(parseMetricsAddress(text)).toEqual(address);
  for (const text of ["0.0.0.0:9100", "[::]:9100", "example.org:80", "127.0.0.1:65536", ""])
    expect(() => parseMetricsAddress(text), text).toThrow(/expected/);
  const refused = await runHeirloom(["serve", "x", "--metrics", "0.0.0.0:1"]);
  expect(refused.status).toBe(2);
  expect(refused.errors).toContain("can be reached from other machines");
  const { status, errors } = await run(process.execPath, [daemon, "--metrics", "0.0.0.0:1"]);
  expect(status).toBe(1);
  expect(errors).toContain("--metrics 0.0.0.0:1: '0.0.0.0' can be reached from other machines");
});
