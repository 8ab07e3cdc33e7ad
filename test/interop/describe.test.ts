/** What an export says of itself, as nbdinfo and qemu-img hear it. */
import { describe, expect, test } from "vitest";
import { attempt, Interop, KiB, MiB, noise, run } from "./interop.fixture.ts";
import { serversAndCommand as servers } from "./servers.fixture.ts";

interface Info {
  readonly protocol: string;
  readonly TLS: boolean;
  readonly structured: boolean;
  readonly exports: ReadonlyArray<Readonly<Record<string, unknown>>>;
}

async function nbdinfo(...args: string[]): Promise<Info> {
  return JSON.parse(await run("nbdinfo", ["--json", ...args])) as Info;
}

describe.for(servers)("$name describes its exports", (server) => {
  test("nbdinfo --json: size, what a writable export can, its contexts", async (context) => {
    const { uri } = await Interop.open(context, server, ["nbdinfo"], noise(3 * MiB + 512, 1));
    const info = await nbdinfo(uri);
    expect(info).toMatchObject({ protocol: "newstyle-fixed", TLS: false, structured: true });
    expect(info.exports).toHaveLength(1);
    expect(info.exports[0]).toMatchObject({
      is_read_only: false,
      can_cache: true,
      can_df: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      "export-size": 3 * MiB + 512,
    });
    expect(info.exports[0]?.contexts).toContain("base:allocation");
  });

  test("nbdinfo --size, --is and --can answer by exit status", async (context) => {
    const { uri } = await Interop.open(context, server, ["nbdinfo"], noise(MiB, 2));
    expect(await run("nbdinfo", ["--size", uri])).toBe(`${MiB}\n`);
    const yes = [
      "connect",
      "structured-reply",
      "flush",
      "fua",
      "trim",
      "zero",
      "cache",
      "df",
      "multi-conn",
      "read",
      "write",
    ];
    for (const ability of yes)
      expect({ ability, ...(await attempt("nbdinfo", ["--can", ability, uri])) }).toMatchObject({ ability, status: 0 });
    const fastZero = (await attempt("nbdinfo", ["--can", "fast-zero", uri])).status;
    expect(fastZero).toBe(server.fastZero ? 0 : 2);
    for (const property of ["read-only", "rotational", "tls"])
      expect((await attempt("nbdinfo", ["--is", property, uri])).status, property).toBe(2);
  });

  test("a read-only export says so, and takes no write", async (context) => {
    const scene = await Interop.open(context, server, ["nbdinfo", "qemu-io"], noise(MiB, 3), { readOnly: true });
    const [info] = (await nbdinfo(scene.uri)).exports;
    expect(info).toMatchObject({ is_read_only: true, can_trim: false, can_zero: false });
    const { errors } = await attempt("qemu-io", ["-f", "raw", "-c", "write 0 4096", scene.uri]);
    expect(errors).not.toBe("");
    await run("qemu-io", ["-r", "-f", "raw", "-c", "read 0 1M", scene.uri]);
    expect(scene.stored.equals(scene.expected)).toBe(true);
  });

  test("qemu-img info: the size, and that it is raw", async (context) => {
    const { uri } = await Interop.open(context, server, ["qemu-img"], noise(5 * MiB, 4));
    const info = JSON.parse(await run("qemu-img", ["info", "--output=json", uri])) as object;
    expect(info).toMatchObject({ "virtual-size": 5 * MiB, format: "raw" });
  });
});

describe.for(servers.filter(({ manyExports }) => manyExports))("$name has several exports", (server) => {
  test("nbdinfo --list shows each with its size, and a wrong name is refused", async (context) => {
    const others = { second: noise(2 * MiB, 6), "a name/with %parts": noise(64 * KiB, 7) };
    const scene = await Interop.open(context, server, ["nbdinfo"], noise(MiB, 5), {}, { second: others.second });
    const { exports } = await nbdinfo("--list", scene.uri);
    const sizes = exports.map((each) => [each["export-name"], each["export-size"]]);
    expect(sizes).toEqual([
      ["disk", MiB],
      ["second", 2 * MiB],
    ]);
    const wrong = await attempt("nbdinfo", [scene.uriOf("third")]);
    expect(wrong.status).toBe(1);
    expect(wrong.errors).toContain("third");
  });
});
