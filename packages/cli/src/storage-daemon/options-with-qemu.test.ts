/** What the daemon says to bad options, against what qemu-storage-daemon says: the same words, but for the program's name. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { textOf } from "../keyval/keyval.ts";
import { parseArguments } from "./arguments.ts";
import { Daemon } from "./daemon.ts";

const nullNode = "--blockdev=null-co,node-name=n";

/** Options that both refuse. */
const refused: ReadonlyArray<readonly string[]> = [
  ["--zz"],
  ["--blockdev"],
  ["--block"],
  ["-x"],
  ["foo"],
  ["-"],
  ["--pidfile"],
  [nullNode, "--zz"],
  ...[
    "driver=null-co,node-name=n,size=x",
    "driver=null-co,node-name=n,size=64k",
    "driver=null-co,node-name=n,size=",
    "driver=null-co,node-name=n,size=-1x",
    "driver=null-co,node-name=n,size=9223372036854775808",
    "driver=null-co,node-name=n,read-only=maybe",
    "driver=null-co,node-name=n,read-only=",
    "driver=null-co,node-name=n,read-only=TRUE",
    "driver=null-co,node-name=n,cache.direct=maybe",
    "driver=null-co,node-name=n,latency-ns=x",
    "driver=null-co,node-name=n,latency-ns=-1",
    "driver=null-co,node-name=n,zz=1",
    "driver=null-co",
    "zz",
    "null-co",
    "null-co,node-name",
    "null-co,node-name=n,size",
    "null-co,node-name=n,=5",
    "null-co,node-name=n,9a=5",
    "null-co,node-name=n,a..b=5",
    "null-co,node-name=n,cache=5",
    "null-co,node-name=n,cache.0=5",
    "null-co,node-name=n,cache.direct=on,cache=x",
    "null-co,node-name=n,cache=x,cache.direct=on",
    "null-co,node-name=n,a[0]=1",
    '{"driver":"null-co"',
    '{"driver":"null-co","node-name":"n"} x',
    '{"driver":5}',
    '{"driver":"null-co","node-name":"n","node-name":"m"}',
    "[]",
    "{",
    "",
    "blkdebug,node-name=n,image.driver=null-co,inject-error.1.event=none",
    "blkdebug,node-name=n,image.driver=null-co,inject-error.0.event=none,inject-error.x=5",
    "raw,node-name=n,file=zz",
    "raw,node-name=n,file.driver=null-co,file=zz",
    "raw,node-name=n,file.driver=zz",
    "raw,node-name=n,size=64k,file.driver=null-co",
    "file,node-name=n,filename=/no,,pe",
    "null-co,node-name=n,size=1k,,",
    "null-co,node-name=1",
    "throttle,node-name=n,throttle-group=g,file.driver=null-co",
    "null-co,node-name=n,detect-zeroes=unmap",
  ].map((text) => ["--blockdev", text]),
  [nullNode, nullNode],
  ...[
    "x,id=a",
    "socket,path=/nonexistent/x",
    "socket,id=a,zz=1,path=/nonexistent/x,server=on,wait=off",
    "socket,id=a,path=/nonexistent/x,server=on,wait=off",
    "socket,id=a,path=/nonexistent/x,server=maybe",
    "socket,id=a,host=127.0.0.1,server=on,wait=off",
    "socket,id=a,host=127.0.0.1,port=x,server=on,wait=off",
    "null",
    "id=a",
  ].map((text) => ["--chardev", text]),
  ["--chardev", "null,id=a", "--chardev", "null,id=a"],
  ["--monitor", "zz"],
  ["--monitor=zz"],
  ["--monitor", "chardev=zz"],
  ["--monitor", '{"chardev":"zz"}'],
  ["--monitor", ""],
  ["--chardev", "null,id=a", "--monitor", "a", "--monitor", "a"],
  ["--chardev", "null,id=a", "--monitor", "a,mode=readline"],
  ["--chardev", "null,id=a", "--monitor", "a,mode=zz"],
  ["--chardev", "null,id=a", "--monitor", "a,zz=1"],
  ...[
    "zz",
    "secret",
    "secret,id=s",
    "secret,id=s,data=x,zz=1",
    "secret,id=1,data=x",
    "throttle-group,id=g,limits.iops-total=x",
    "throttle-group,id=g,limits.iops-total=5,limits.iops-read=5",
    "tls-creds-x509,id=t,endpoint=server,dir=/nonexistent",
    "tls-creds-psk,id=t,endpoint=zz,dir=/nonexistent",
    '{"qom-type":"secret","id":"s"}',
  ].map((text) => ["--object", text]),
  ["--object", "secret,id=s,data=x", "--object", "secret,id=s,data=x"],
  ["--export", "zz"],
  ["--export", "nbd,id=x"],
  ["--export", "nbd,id=x,node-name=n"],
  [nullNode, "--export", "nbd,id=x,node-name=n"],
  [nullNode, "--export", "nbd,id=x,node-name=n,bitmap=b"],
  ["--nbd-server", "zz"],
  ["--nbd-server", "addr.type=unix,addr.path=/nonexistent/x"],
  ["--nbd-server", "addr.type=inet,addr.host=127.0.0.1"],
  ["--nbd-server", "addr.type=unix,addr.path=/nonexistent/x,max-connections=many"],
];

function theirs(words: readonly string[]): string {
  const { stderr, status } = spawnSync("qemu-storage-daemon", words, { encoding: "utf8", timeout: 10_000 });
  expect(status, words.join(" ")).toBe(1);
  return stderr.split("\n")[0].replace(/^qemu-storage-daemon: /, "");
}

async function ours(words: readonly string[]): Promise<string> {
  const silent = { info: () => {}, error: () => {} };
  const daemon = new Daemon(silent, () => {});
  let written = "";
  try {
    for (const option of parseArguments(words).options) {
      written = `${option.written}: `;
      await daemon.apply(option);
    }
    return "it was accepted";
  } catch (error) {
    return `${written}${textOf(error)}`;
  } finally {
    await daemon.close();
  }
}

test("bad options are refused in QEMU's words", { timeout: 120_000 }, async (context) => {
  if (spawnSync("sh", ["-c", "command -v qemu-storage-daemon"]).status !== 0) {
    if (process.env.CI) throw new Error("qemu-storage-daemon is not installed, and CI must have it");
    context.skip("qemu-storage-daemon is not installed");
  }
  const told = [];
  for (const words of refused) told.push({ words, text: await ours(words) });
  expect(told).toEqual(refused.map((words) => ({ words, text: theirs(words) })));
});

test("what both accept: short forms of old, numbers as C has them, the last of two, doubled commas", async () => {
  const directory = mkdtempSync(join(tmpdir(), "heirloom,cli-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "socket").replaceAll(",", ",,");
  const words = [
    ...["--chardev", `socket,id=a,path=${path},server,nowait`, "--monitor", "a,pretty=on"],
    ...["--blockdev", "null-co,node-name=n,size=0x10000", "--blockdev", "null-co,node-name=m,node-name=o,size=+010"],
    ...[
      "--object",
      "throttle-group,id=g,limits.iops-total=5",
      "--blockdev",
      "throttle,node-name=t,throttle-group=g,file=n",
    ],
    ...["--object", "iothread,id=i,poll-max-ns=0", "--nbd-server", `addr.type=unix,addr.path=${path}-nbd`],
    ...["--export", "nbd,id=e,node-name=n,iothread=i"],
    ...["--trace", "nothing", "-Tnothing"],
  ];
  expect(await ours(words)).toBe("it was accepted");
});
