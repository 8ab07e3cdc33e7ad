/** The words of a command line, one by one, against what a shell and QEMU make of them. */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { parseListen, isLoopback } from "../../dist/heirloom/serve/listen-argument.js";
import { parseBitmap } from "../../dist/heirloom/serve/bitmap-argument.js";
import { qemuValue, quoted } from "../../dist/heirloom/shell-words.js";
import { formatBytes, parseBytes } from "../../dist/heirloom/sizes.js";
import { printable } from "../../dist/heirloom/terminal/printable.js";
import { cut } from "../../dist/heirloom/terminal/screen.js";

test("what is quoted a shell reads back as it was", () => {
  const words = [
    "plain",
    "",
    "a b",
    "it's",
    "$HOME",
    "`id`",
    "a\nb",
    "*",
    "~",
    "-n",
    "a;b",
    "nbd+unix:///a?socket=/b",
    '"',
    "\\",
  ];
  const output = execFileSync("sh", ["-c", `printf '%s\\0' ${words.map(quoted).join(" ")}`], { encoding: "utf8" });
  expect(output.split("\0").slice(0, -1)).toEqual(words);
  expect(quoted("/images/vm-1.raw")).toBe("/images/vm-1.raw");
});

test("a comma in a value of QEMU's is doubled", () => {
  expect(qemuValue("/a,b,c")).toBe("/a,,b,,c");
});

test.each([
  ["127.0.0.1:10810", "127.0.0.1", 10810],
  ["[::1]:0", "::1", 0],
  ["[::1]", "::1", undefined],
  ["vmhost", "vmhost", undefined],
  ["*", "::", undefined],
  ["*:1", "::", 1],
])("--listen %s", (text, host, port) => {
  expect(parseListen(text)).toEqual({ host, port });
});

test("who listens on this machine alone is told from who does not", () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "localhost"]) expect(isLoopback({ host })).toBe(true);
  for (const host of ["::", "0.0.0.0", "10.0.0.1", "1270.0.0.1", "localhost.example"])
    expect(isLoopback({ host })).toBe(false);
});

test.each([
  ["daily", "daily", undefined],
  ["daily,granularity=65536", "daily", 65536],
  ["a=b,granularity=64k", "a=b", 65536],
  ["a,granularity=512", "a", 512],
  ["a,granularity=2G", "a", 2 ** 31],
])("--bitmap %s", (text, name, granularity) => {
  expect(parseBitmap(text)).toEqual({ name, granularity });
});

test("sizes are binary", () => {
  expect(["0", "1", "4k", "64K", "1M", "3g", "1T"].map(parseBytes)).toEqual([
    0,
    1,
    4096,
    65536,
    2 ** 20,
    3 * 2 ** 30,
    2 ** 40,
  ]);
  for (const text of ["", "k", "1.5M", "-1", "0x10", "1KiB", "99999999T"])
    expect(parseBytes(text), text).toBeUndefined();
  const written: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1 KiB"],
    [1536, "1.5 KiB"],
    [2 ** 20 - 1, "1 MiB"],
    [150.26 * 2 ** 20, "150 MiB"],
    [10 * 2 ** 40, "10 TiB"],
  ];
  for (const [bytes, text] of written) expect(formatBytes(bytes)).toBe(text);
});

test("control characters of others are shown, and not done", () => {
  expect(printable("a\x1b[2Jb\r\n\x9bc\u0000 ü 😀")).toBe("a\\x1b[2Jb\\x0d\\x0a\\x9bc\\x00 ü 😀");
});

test("a line is cut at a terminal's edge, and its colours are ended all the same", () => {
  expect(cut("\x1b[31mabcdef\x1b[39m", 3)).toBe("\x1b[31mabc\x1b[39m");
  expect(cut("ab", 3)).toBe("ab");
  expect(cut("a😀bc", 3)).toBe("a😀b");
});
