/** `heirloom serve` with TLS: who gets in with which credentials, and which command lines are refused. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needTool, peer, run, runHeirloom, scratchDirectory, Serve } from "../command.fixture.ts";

const DISK = `json:{"driver":"memory","size":1048576}=vm`;
const KEY = "a1".repeat(32);

/** A CA, and what it has signed for a server and for a client, each in a directory as QEMU has them. */
async function pki(directory: string): Promise<void> {
  const make = (name: string, subject: string, ...more: readonly string[]): Promise<string> =>
    peer(
      "openssl",
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "2",
      "-subj",
      subject,
      "-keyout",
      join(directory, `${name}-key.pem`),
      "-out",
      join(directory, `${name}-cert.pem`),
      ...more,
    );
  const signed = [
    "-CA",
    join(directory, "ca-cert.pem"),
    "-CAkey",
    join(directory, "ca-key.pem"),
    "-addext",
    "basicConstraints=critical,CA:FALSE",
  ];
  await make("ca", "/CN=ca");
  await make("server", "/CN=localhost", ...signed, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1");
  await make("client", "/CN=alice", ...signed);
}

test("with secrets: libnbd, QEMU and pull come in as users of the file, others and those without TLS do not", async (context) => {
  needTool(context, "nbdinfo", "qemu-img");
  const directory = scratchDirectory();
  const keys = join(directory, "keys.psk");
  writeFileSync(keys, `alice:${KEY}\nbob:${KEY}\n`);
  const serve = new Serve([
    DISK,
    "-l",
    "127.0.0.1:0",
    "-s",
    join(directory, "s.sock"),
    "--tls-psk",
    keys,
    "--tls-allow",
    "alice",
  ]);
  const { exports, tls, addresses } = await serve.ready();
  expect(tls).toBe("psk");
  const [tcp, unix] = exports[0].uris.toSorted((a, b) => a.length - b.length);
  expect(tcp).toMatch(/^nbds:\/\/127\.0\.0\.1:\d+\/vm$/);
  expect(unix).toMatch(/^nbds\+unix:\/\/\/vm\?socket=/);
  const as = (uri: string, user: string): string =>
    `${uri.replace("//", `//${user}@`)}${uri.includes("?") ? "&" : "?"}tls-psk-file=${keys}`;
  expect(await peer("nbdinfo", "--size", as(tcp, "alice"))).toBe("1048576\n");
  expect(await peer("nbdinfo", "--size", as(unix, "alice"))).toBe("1048576\n");
  expect(await serve.until("connected")).toMatchObject({ tls: { identity: "alice" } });
  const object = `tls-creds-psk,id=tls,endpoint=client,dir=${directory},username=alice`;
  const { port } = addresses.find((address) => address.port !== undefined) ?? {};
  const options = `driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=${port},export=vm,tls-creds=tls`;
  expect(await peer("qemu-img", "info", "--object", object, "--image-opts", options)).toContain("virtual size: 1 MiB");
  const pulled = await runHeirloom(["pull", as(tcp, "alice"), join(directory, "copy.raw")]);
  expect(pulled).toMatchObject({ status: 0, output: expect.stringContaining("all of 1 MiB") as string });

  expect(await run("nbdinfo", ["--size", as(tcp, "bob")])).toMatchObject({ status: 1 });
  expect(await run("nbdinfo", ["--size", tcp.replace("nbds:", "nbd:")])).toMatchObject({ status: 1 });
  const clear = await runHeirloom(["pull", tcp.replace("nbds:", "nbd:"), join(directory, "clear.raw")]);
  expect(clear).toMatchObject({ status: 1, output: "" });
});

test("with certificates: a client that the CA has signed comes in, one without does where none are asked for", async (context) => {
  needTool(context, "nbdinfo", "openssl");
  const directory = scratchDirectory();
  await pki(directory);
  const strict = new Serve([DISK, "-l", "localhost:0", "--tls-creds", directory]);
  const lax = new Serve([DISK, "-l", "localhost:0", "--tls-creds", directory, "--tls-clients", "none"]);
  const withCa = join(directory, "ca-only");
  mkdirSync(withCa);
  await peer("cp", join(directory, "ca-cert.pem"), withCa);
  const size = async (serve: Serve, credentials: string): Promise<number | string | null> => {
    const { addresses } = await serve.ready();
    const ran = await run("nbdinfo", [
      "--size",
      `nbds://localhost:${addresses[0].port}/vm?tls-certificates=${credentials}`,
    ]);
    return ran.status;
  };
  expect(await size(strict, directory)).toBe(0);
  expect(await strict.until("connected")).toMatchObject({
    tls: { subject: expect.stringContaining("alice") as string },
  });
  expect(await size(strict, withCa)).toBe(1);
  expect(await size(lax, withCa)).toBe(0);
});

const refusals: [args: string[], status: number, says: string][] = [
  [["--tls-creds", ".", "--tls-psk", "keys"], 2, "--tls-creds and --tls-psk are two kinds of TLS"],
  [["--tls-allow", "alice"], 2, "--tls-allow needs TLS"],
  [["--tls-psk", "keys", "--tls-clients", "none"], 2, "--tls-clients is about certificates"],
  [["--tls-creds", ".", "--tls-clients", "none", "--tls-allow", "alice"], 2, "--tls-allow needs clients' certificates"],
  [
    ["--tls-creds", "."],
    1,
    "ca-cert.pem: no such file\n  Expected a directory with ca-cert.pem, server-cert.pem and server-key.pem",
  ],
  [["--tls-psk", "nowhere"], 1, "nowhere: no such file"],
  [["--tls-psk", "keys"], 1, "TLS credentials: keys"],
];
for (const [args, status, says] of refusals) {
  test(`${args.join(" ")} is refused: status ${status}`, async () => {
    const directory = scratchDirectory();
    writeFileSync(join(directory, "keys"), "alice without a key\n");
    const ran = await runHeirloom(["serve", DISK, "-s", "s.sock", ...args], { cwd: directory });
    expect(ran).toMatchObject({ status, output: "" });
    expect(ran.errors).toContain(says);
    expect(ran.errors).not.toContain("internal error");
  });
}
