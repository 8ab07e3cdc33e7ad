/** Runs the demo as its user does: as a process, whole. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const main = fileURLToPath(new URL("../dist/main.js", import.meta.url));
const timeout = 150_000;

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What the demo leaves in the directory that it takes for temporary files, after each test. */
let scratch: string;
let given: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "heirloom-demo-test-"));
  given = join(mkdtempSync(join(tmpdir(), "heirloom-demo-given-")), "given.img");
});
afterEach(() => {
  rmSync(scratch, { recursive: true });
  rmSync(join(given, ".."), { recursive: true });
});

/** @param atOutput is told each time something was printed; what it returns is sent as a signal */
function demo(
  args: readonly string[],
  environment: Record<string, string> = {},
  atOutput?: (stdout: string) => "SIGINT" | "SIGTERM" | undefined,
): Promise<Run> {
  const env = { ...process.env, TMPDIR: scratch, ...environment };
  const child = spawn(process.execPath, [main, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    const signal = atOutput?.(stdout);
    if (signal !== undefined) child.kill(signal);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
}

function makeGiven(length: number): Buffer {
  const bytes = Buffer.alloc(length / 2);
  for (let at = 0; at < bytes.length; at += 512) bytes.writeUInt32LE(at + 1, at);
  writeFileSync(given, bytes);
  truncateSync(given, length);
  return readFileSync(given);
}

const noTools = { HEIRLOOM_DEMO_TOOLS: "/nonexistent" };

test("by default every point in time is exact, and the report says so", { timeout }, async () => {
  const { code, stdout, stderr } = await demo(["--seed", "3"]);
  expect(stderr).toBe("");
  expect(stdout).toMatch(/All 3 points in time are exact/);
  expect(stdout).toContain("(seed 3)");
  for (const name of ["full", "inc-1", "inc-4"]) {
    expect(stdout).toMatch(new RegExp(`✓ ${name} +from full.* all 268,435,456 bytes are equal`));
  }
  if (stdout.includes("ext4 with")) expect(stdout.match(/e2fsck: clean/g)).toHaveLength(3);
  else expect(stdout).toContain("e2fsprogs (mkfs.ext4, debugfs, e2fsck) was not found");
  expect(stdout).toMatch(/inc-2 .*\n.*since inc-1\n.*failed \(No space left on device\): the successor was reclaimed/);
  expect(stdout).toMatch(/inc-3 .*\n.*since inc-1\n.*cancelled: the successor was reclaimed/);
  expect(stdout).toMatch(/bitmap daily .*recording, .*frozen \(freeze\), .*recording \(abdicate\)/);
  expect(stdout.split("\n").filter((line) => line.length > 100 && !line.includes(scratch))).toEqual([]);
  expect(code).toBe(0);
  expect(readdirSync(scratch)).toEqual([]);
});

test(
  "without e2fsprogs it works on a raw pattern and says so; --json is a summary that a program can read",
  { timeout },
  async () => {
    const { code, stdout, stderr } = await demo(["--json", "--seed=4"], noTools);
    expect(stderr).toContain("a raw pattern, written anywhere: e2fsprogs");
    const summary = JSON.parse(stdout) as Record<string, unknown>;
    const point = (name: string, chain: string[]) => ({
      name,
      chain,
      bytes: 2 ** 28,
      difference: null,
      e2fsck: "not run",
    });
    expect(summary).toMatchObject({
      ok: true,
      problems: [],
      seed: 4,
      points: [point("full", ["full"]), point("inc-1", ["full", "inc-1"]), point("inc-4", ["full", "inc-1", "inc-4"])],
    });
    const backups = summary["backups"] as {
      name: string;
      status: string;
      artefact: string | null;
      copiedBytes: number;
    }[];
    expect(backups.map(({ status }) => status)).toEqual(["completed", "completed", "failed", "cancelled", "completed"]);
    expect(backups.map(({ artefact }) => artefact !== null)).toEqual([true, true, false, false, true]);
    for (const { name, copiedBytes } of backups) expect(copiedBytes, `what ${name} copied`).toBeGreaterThan(0);
    expect(code).toBe(0);
  },
);

test("a given image is copied, never written; --keep keeps what was made", { timeout }, async () => {
  const before = makeGiven(16 * 1024 * 1024 + 512);
  const { code, stdout } = await demo([given, "--keep", "--seed", "5"]);
  expect(stdout).toContain(`a copy of ${given}`);
  expect(stdout).toMatch(/All 3 points in time are exact/);
  expect(stdout).not.toContain("e2fsck:");
  expect(code).toBe(0);
  expect(readFileSync(given).equals(before), "the given image is what it was").toBe(true);
  const [kept] = readdirSync(scratch);
  expect(stdout).toContain(`Kept in ${join(scratch, kept)}`);
  const names = ["full", "inc-1", "inc-4"].flatMap((name) => [`${name}.img`, `${name}.json`, `${name}.raw`]);
  expect(readdirSync(join(scratch, kept))).toEqual(expect.arrayContaining(names));
});

test(
  "a byte that is wrong in a rebuilt image is found, told with its offset, and the exit code is 1",
  { timeout },
  async () => {
    makeGiven(16 * 1024 * 1024);
    const { code, stdout } = await demo([given, "--seed", "6"], { HEIRLOOM_DEMO_CORRUPT: "11" });
    expect(stdout).toMatch(
      /✗ full: 1 byte of the rebuilt image differs from the disk at its freeze, the first at offset \d+/,
    );
    expect(stdout).not.toContain("are exact");
    expect(code).toBe(1);
    expect(readdirSync(scratch)).toEqual([]);
  },
);

describe("stopped in the middle, it leaves nothing:", () => {
  for (const [signal, expected] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    test(signal, { timeout }, async () => {
      const atOutput = (stdout: string) => (stdout.includes("guests alone") ? signal : undefined);
      const { code, stderr } = await demo([], noTools, atOutput);
      expect(stderr).toBe("");
      expect(code).toBe(expected);
      expect(readdirSync(scratch)).toEqual([]);
    });
  }
});

describe("what it cannot take is refused in a sentence:", () => {
  const cases: Record<string, [() => string[], RegExp, Record<string, string>?]> = {
    "an image that is not there": [
      () => ["/nonexistent.img"],
      /expected an image at \/nonexistent.img, but there is no such file/,
    ],
    "a directory": [() => [scratch], /is a directory/],
    "a path that leads nowhere": [
      () => (symlinkSync("given.img", given), [given]),
      /expected an image that can be looked at \(ELOOP/,
    ],
    "a device": [() => ["/dev/null"], /regular file/],
    "an image that is too small": [() => (makeGiven(4096), [given]), /at least 8.0 MiB, but .* has 4.0 KiB/],
    "an image for which there is no room": [
      () => (truncateSync((makeGiven(4096), given), 2 ** 43), [given]),
      /expected 48.0 TiB free in/,
    ],
    "two images": [() => ["a", "b"], /one IMAGE at most/],
    "a seed that is none": [() => ["--seed", "x"], /--seed: expected a whole number/],
    "a seed that looks like an option": [() => ["--seed", "-1"], /Option '--seed' argument is ambiguous \(--help/],
    "an option that is none": [() => ["--sede"], /demo: Unknown option '--sede' \(--help lists what there is\)/],
    "no place to work in": [() => [], /expected \/nonexistent to be a directory .* TMPDIR/, { TMPDIR: "/nonexistent" }],
  };
  for (const [name, [args, says, environment]] of Object.entries(cases)) {
    test(name, async () => {
      const { code, stdout, stderr } = await demo(args(), environment);
      expect(stderr).toMatch(says);
      expect(stderr.trim().split("\n")).toHaveLength(1);
      expect(stdout).toBe("");
      expect(code).toBe(2);
      expect(readdirSync(scratch)).toEqual([]);
    });
  }
});

test("--help says what there is", async () => {
  const { code, stdout } = await demo(["--help"]);
  for (const word of ["IMAGE", "--seed", "--keep", "--json", "NO_COLOR"]) expect(stdout).toContain(word);
  expect(code).toBe(0);
});
