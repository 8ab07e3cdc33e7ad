import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { jobMachine } from "@heirloom/runtime";
import { expect, onTestFinished, test } from "vitest";

const cwd = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(`${cwd}/README.md`, "utf8");

function block(fence: string): string {
  const text = readme.split("```" + fence + "\n")[1]?.split("```")[0];
  if (text === undefined) throw new Error(`README.md has no block ${fence}`);
  return text;
}

function run(program: string): string {
  return execFileSync(process.execPath, ["--input-type=module", "-e", program], { cwd }).toString();
}

test("the README's example prints what the README says", () => {
  expect(run(block("js"))).toBe(block("text"));
});

test("the README's view reads, and abdicates", () => {
  const program = `
    import { createRuntime } from "@heirloom/runtime";
    const runtime = createRuntime();
    const disk = await runtime.attach({ driver: "memory", size: 2 ** 20 });
    await disk.bitmaps.add("daily");
    await disk.write(new Uint8Array(1), 2 ** 18);
    ${block("js example=view")}
    console.log(disk.bitmaps.get("daily").count);
    await runtime.close();`;
  expect(run(program)).toBe("0\n");
});

test("the README's server shows a disk and a point in time, at the addresses that it says", () => {
  const socket = `${mkdtempSync(`${tmpdir()}/readme-`)}/heirloom.sock`;
  onTestFinished(() => rmSync(dirname(socket), { recursive: true }));
  const program = `
    import { createRuntime } from "@heirloom/runtime";
    const runtime = createRuntime();
    const disk = await runtime.attach({ driver: "memory", size: 2 ** 20 });
    for (const name of ["daily", "weekly"]) await disk.bitmaps.add(name);
    await disk.write(new Uint8Array(1), 2 ** 18);
    ${block("js example=nbd").replace("/run/heirloom.sock", socket).replace("port: 10809", "port: 0")}
    const counts = ["daily", "weekly"].map((name) => disk.bitmaps.get(name).count);
    console.log(counts, server.exports.map(({ name }) => name));
    await runtime.close();`;
  const [uris, after] = run(program).split("]\n[");
  expect(uris).toContain(`'nbd+unix:///vm?socket=${socket}',`);
  expect(uris).toMatch(/'nbd:\/\/127\.0\.0\.1:\d+\/vm'/);
  expect(after).toBe(" 0, 65536 ] [ 'vm' ]\n");
});

test("the README's persistent bitmap is there at the next attach, and begun anew where it cannot be believed", () => {
  const program = `
    import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
    import { tmpdir } from "node:os";
    import { createRuntime } from "@heirloom/runtime";
    const place = mkdtempSync(tmpdir() + "/readme-");
    const filename = place + "/vm.img";
    writeFileSync(filename, "");
    truncateSync(filename, 2 ** 24);
    for (const behind of [false, true, false]) {
      const runtime = createRuntime();
      ${block("js example=persistent").replace("bound: 2 ** 30", "bound: 2 ** 30, allowTmpfs: true")}
      await disk.write(new Uint8Array(1), 2 ** 18);
      console.log(reason, disk.bitmaps.get("daily").count);
      await runtime.close();
      if (behind) writeFileSync(filename, "x", { flag: "r+" });
    }
    rmSync(place, { recursive: true });`;
  expect(run(program)).toMatch(
    /^\S.* 65536\nfound as it was left 65536\nthe next backup is a full one: the image was changed behind.*\n.* 65536\n$/,
  );
});

test("the example is one that the oldest Node parses, and the machines that it names are there", () => {
  expect(block("js")).not.toContain("await using");
  expect(jobMachine.states).toContain("pending");
});
