/** Whole images in and out, with several connections and many requests at once. */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { attempt, firstDifference, Interop, KiB, MiB, noise, run } from "./interop.fixture.ts";
import { servers } from "./servers.fixture.ts";

/** Data, holes and zeroes; ends in the middle of a page. */
function image(seed: number): Buffer {
  const content = noise(12 * MiB + 512, seed);
  content.fill(0, 2 * MiB, 5 * MiB + 4 * KiB);
  content.fill(0, 7 * MiB + 100, 7 * MiB + 9000);
  return content;
}

describe.for(servers)("$name is copied", (server) => {
  test.for([1, 4])("nbdcopy out of it, %i connections", async (connections, context) => {
    const scene = await Interop.open(context, server, ["nbdcopy"], image(1));
    const copy = scene.path("copy.raw");
    await run("nbdcopy", [`--connections=${connections}`, "--requests=32", scene.uri, copy]);
    expect(firstDifference(readFileSync(copy), scene.expected)).toBe(-1);
  });

  test("nbdcopy out of it without asking for extents, in small requests", async (context) => {
    const scene = await Interop.open(context, server, ["nbdcopy"], image(2));
    const copy = scene.path("copy.raw");
    await run("nbdcopy", ["--no-extents", "--request-size=16384", "--connections=2", scene.uri, copy]);
    expect(firstDifference(readFileSync(copy), scene.expected)).toBe(-1);
  });

  test.for([1, 4])("nbdcopy into it, %i connections, over what was there", async (connections, context) => {
    const scene = await Interop.open(context, server, ["nbdcopy"], noise(12 * MiB + 512, 3));
    const source = scene.path("source.raw");
    const content = image(4);
    writeFileSync(source, content);
    await run("nbdcopy", [`--connections=${connections}`, "--requests=32", "--flush", source, scene.uri]);
    expect(firstDifference(scene.stored, content)).toBe(-1);
  });

  test("nbdcopy from one export to another server's", async (context) => {
    const scene = await Interop.open(context, server, ["nbdcopy", "nbdkit"], image(5));
    const copy = scene.path("copy.raw");
    writeFileSync(copy, noise(12 * MiB + 512, 6));
    await run("nbdcopy", ["--connections=2", scene.uri, "--", "[", "nbdkit", "--exit-with-parent", "file", copy, "]"]);
    expect(firstDifference(readFileSync(copy), scene.expected)).toBe(-1);
  });

  test("qemu-img convert out of it, and compare finds no difference until there is one", async (context) => {
    const scene = await Interop.open(context, server, ["qemu-img"], image(7));
    const copy = scene.path("copy.qcow2");
    await run("qemu-img", ["convert", "-m", "8", "-W", "-f", "raw", "-O", "qcow2", scene.uri, copy]);
    const plain = scene.path("copy.raw");
    await run("qemu-img", ["convert", "-O", "raw", copy, plain]);
    expect(firstDifference(readFileSync(plain), scene.expected)).toBe(-1);
    await run("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", scene.uri, copy]);
    await run("qemu-io", ["-f", "raw", "-c", `write -P ${other(scene.expected[6 * MiB])} 6M 1`, scene.uri]);
    const { status, output } = await attempt("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", scene.uri, copy]);
    expect({ status, output }).toEqual({ status: 1, output: `Content mismatch at offset ${6 * MiB}!\n` });
  });

  test("qemu-img convert into it, over what was there", async (context) => {
    const scene = await Interop.open(context, server, ["qemu-img"], noise(12 * MiB + 512, 8));
    const source = scene.path("source.raw");
    const content = image(9);
    writeFileSync(source, content);
    await run("qemu-img", ["convert", "-n", "-m", "8", "-W", "-f", "raw", "-O", "raw", source, scene.uri]);
    expect(firstDifference(scene.stored, content)).toBe(-1);
  });

  test("qemu-img bench: deep queues of reads leave it as it is, of writes fill it, with flushes between", async (context) => {
    const scene = await Interop.open(context, server, ["qemu-img"], noise(4 * MiB, 10));
    const bench = ["bench", "-f", "raw", "-t", "none", "-d", "64", "-s", "4096", "-q"];
    await run("qemu-img", [...bench, "-c", "3000", scene.uri]);
    expect(firstDifference(scene.stored, scene.expected)).toBe(-1);
    await run("qemu-img", [...bench, "-w", "--pattern=119", "--flush-interval=64", "-c", "1024", scene.uri]);
    expect(firstDifference(scene.stored, Buffer.alloc(4 * MiB, 119))).toBe(-1);
  });
});

function other(byte: number | undefined): number {
  return ((byte ?? 0) + 1) % 256;
}
