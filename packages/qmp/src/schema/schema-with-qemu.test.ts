/** The table against QEMU's own: error texts of bad arguments, and the types of `query-qmp-schema`. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { needQemu, type RawMonitor, startQemu } from "../qemu.fixture.ts";
import { chapters, commands, events } from "../table/command-table.ts";
import { JsonReader } from "../wire/json-reader.ts";
import { idOf, readRequest } from "../wire/request.ts";
import { introspect } from "./introspection.ts";
import { readArguments } from "./read-value.ts";
import { generateReference } from "./reference-page.ts";
import { generateTypes } from "./typescript.ts";

async function negotiated(): Promise<RawMonitor> {
  const qemu = await startQemu();
  await qemu.line();
  qemu.send('{"execute":"qmp_capabilities"}');
  await qemu.line();
  return qemu;
}

/** Arguments that QEMU refuses by their shape. */
const refused: Readonly<Record<string, readonly string[]>> = {
  "block-dirty-bitmap-add": [
    "{}",
    '{"node":5}',
    '{"name":"x"}',
    '{"node":"a"}',
    ...[
      '"5"',
      "-1",
      "1.5",
      "4096.0",
      "4294967296",
      "18446744073709551615",
      "18446744073709551616",
      "1e3",
      "null",
      "[]",
      "-0.0",
    ].map((value) => `{"node":"a","name":"b","granularity":${value}}`),
    '{"node":"a","name":"b","persistent":1}',
    '{"node":"a","name":"b","persistent":"on"}',
    '{"node":null,"name":"b"}',
    '{"x":1}',
    '{"node":"a","name":"b","x":1}',
  ],
  "blockdev-add": [
    "{}",
    '{"driver":"x"}',
    '{"driver":5}',
    ...['"5"', "1.5", "9223372036854775808"].map((value) => `{"driver":"null-co","node-name":"n","size":${value}}`),
    '{"driver":"null-co","node-name":"n","latency-ns":18446744073709551616}',
    '{"driver":"null-co","node-name":"n","latency-ns":true}',
    '{"driver":"null-co","node-name":"n","file":"x"}',
    '{"driver":"raw","node-name":"n"}',
    ...["5", "null", "{}", '{"driver":"null-co","zz":1}', '{"driver":"raw","file":{"driver":"zz"}}', "[]", "true"].map(
      (value) => `{"driver":"raw","node-name":"n","file":${value}}`,
    ),
    '{"driver":"file","node-name":"n"}',
    '{"driver":"null-co","node-name":"n","cache":{"direct":5}}',
    '{"driver":"null-co","node-name":"n","cache":5}',
    '{"driver":"null-co","node-name":"n","discard":"x"}',
    '{"driver":"null-co","node-name":"n","read-only":"x"}',
    '{"driver":"nbd","node-name":"n"}',
    '{"driver":"nbd","node-name":"n","server":{"type":"x"}}',
    '{"driver":"nbd","node-name":"n","server":{"type":"unix"}}',
    '{"driver":"throttle","node-name":"n","file":"n"}',
    '{"driver":"blkdebug","node-name":"n","image":"n","inject-error":[{"event":"x"}]}',
    '{"driver":"blkdebug","node-name":"n","image":"n","inject-error":[{"event":"none","errno":"x"}]}',
    '{"driver":"blkdebug","node-name":"n","image":"n","inject-error":{}}',
    '{"driver":"qcow2","node-name":"q","file":"n","backing":5}',
  ],
  transaction: [
    "{}",
    '{"actions":5}',
    '{"actions":{}}',
    '{"actions":[5]}',
    '{"actions":[{}]}',
    '{"actions":[{"type":"x"}]}',
    '{"actions":[{"type":"abort"}]}',
    '{"actions":[{"type":"abort","data":5}]}',
    '{"actions":[{"type":"abort","data":{"x":1}}]}',
    '{"actions":[{"type":"abort","data":{}},{"type":"block-dirty-bitmap-add","data":{"node":"n"}}]}',
    '{"actions":[],"properties":{"completion-mode":"x"}}',
    '{"actions":[],"properties":{"x":1}}',
    '{"actions":[{"type":"abort","data":{},"zz":1}]}',
    ...["[5]", "[null]", '["x",{"node":"n"}]', '["x",{"node":"n","name":"x","y":1}]'].map(
      (bitmaps) =>
        `{"actions":[{"type":"block-dirty-bitmap-merge","data":{"node":"n","target":"x","bitmaps":${bitmaps}}}]}`,
    ),
  ],
  "blockdev-backup": [
    '{"device":"n","target":"n","sync":"foo"}',
    '{"device":"n","target":"n","sync":"full","speed":"x"}',
    '{"device":"n","target":"n","sync":"full","speed":1.5}',
    '{"device":"n","target":"n","sync":"full","speed":9223372036854775808}',
    '{"device":"n","target":"n","sync":"full","x-perf":{"max-workers":"a"}}',
    '{"device":"n","target":"n","sync":"full","x-perf":{"max-chunk":1e3}}',
    '{"device":"n","target":"n","sync":"full","x-perf":{"zz":1}}',
    '{"device":"n","target":"n","sync":"full","bitmap-mode":"on-failure"}',
    '{"device":"n","target":"n"}',
  ],
  "nbd-server-start": [
    "{}",
    '{"addr":{}}',
    '{"addr":{"type":"unix","path":"x"}}',
    '{"addr":{"type":"unix","data":{"path":"x","zz":1}}}',
    '{"addr":{"type":"inet","data":{"host":"x","port":5}}}',
  ],
  "object-add": [
    "{}",
    '{"qom-type":"x"}',
    '{"qom-type":"secret"}',
    '{"qom-type":"throttle-group","id":"g","limits":{"iops-total":1.5}}',
    '{"qom-type":"tls-creds-x509","id":"t","dir":"/nope","endpoint":"x"}',
  ],
  "block-export-add": ['{"type":"nbd","id":"e"}', '{"type":"nbd","id":"e","node-name":"n","bitmaps":[{}]}'],
  "job-cancel": ["{}", '{"id":1}', '{"id":"x","force":true}'],
  "query-jobs": ['{"x":{}}'],
};

test("arguments of the wrong shape are refused in QEMU's words", async (context) => {
  needQemu(context);
  const qemu = await negotiated();
  for (const [command, given] of Object.entries(refused)) {
    for (const text of given) {
      const request = `{"execute":"${command}","arguments":${text}}`;
      qemu.send(request);
      const { error } = JSON.parse(await qemu.line()) as { error?: { desc: string } };
      expect(ourText(request), request).toBe(error?.desc);
    }
  }
});

function ourText(request: string): string | undefined {
  const [item] = new JsonReader().feed(Buffer.from(request));
  if (!("value" in item)) throw new Error(item.error);
  expect(idOf(item.value)).toBeUndefined();
  const { command, arguments: given } = readRequest(item.value, false);
  try {
    readArguments(commands[command].arguments, given);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

interface Entry {
  readonly name: string;
  readonly "meta-type": string;
  readonly [member: string]: unknown;
}
interface SchemaMember {
  readonly name: string;
  readonly type: string;
  readonly default?: null;
  readonly features?: readonly string[];
}

/** A schema as the set of what can be said in it: one line for each member that can be reached from a command or an event. */
function reach(schema: readonly Entry[]): Set<string> {
  const byName = new Map(schema.map((entry) => [entry.name, entry]));
  const lines = new Set<string>();
  const walk = (type: string, path: string, above: readonly string[]): void => {
    const entry = byName.get(type)!;
    switch (entry["meta-type"]) {
      case "builtin":
        lines.add(`${path} is ${type}`);
        return;
      case "array":
        walk(entry["element-type"] as string, `${path}[]`, above);
        return;
      case "enum":
        for (const { name } of entry.members as readonly SchemaMember[]) lines.add(`${path} may be ${name}`);
        return;
      case "alternate":
        for (const { type: branch } of entry.members as readonly SchemaMember[]) walk(branch, path, above);
        return;
      default:
        break;
    }
    if (above.includes(type)) {
      lines.add(`${path} is an object as above`);
      return;
    }
    const inside = [...above, type];
    const members = (object: Entry, at: string): void => {
      for (const member of object.members as readonly SchemaMember[]) {
        const optional = "default" in member ? "?" : "";
        const features = member.features === undefined ? "" : ` (${member.features.join()})`;
        lines.add(`${at}.${member.name}${optional}${features}`);
        walk(member.type, `${at}.${member.name}`, inside);
      }
    };
    members(entry, path);
    for (const variant of (entry.variants ?? []) as readonly { case: string; type: string }[]) {
      const of = byName.get(variant.type)!;
      members(of, `${path}<${variant.case}>`);
    }
  };
  for (const entry of schema) {
    if (entry["meta-type"] === "command") {
      lines.add(`${entry.name} ${JSON.stringify(entry.features ?? [])}`);
      walk(entry["arg-type"] as string, `${entry.name}(`, []);
      walk(entry["ret-type"] as string, `${entry.name})`, []);
    } else if (entry["meta-type"] === "event") walk(entry["arg-type"] as string, entry.name, []);
  }
  return lines;
}

/** What we have and QEMU 7.2 has not: of later versions, or told more narrowly. */
const ours: readonly RegExp[] = [
  /\.(on-cbw-error|cbw-timeout|discard-source|min-cluster-size|handshake-max-seconds)\b/,
  /^(blockdev-backup|drive-backup|transaction)\(.*\.(resumable|sync-spill)\b/,
  /^job-resume\(\.(target|filename)\b/,
  /^query-qmp-schema\)/,
  /^x-heirloom-/,
  /^JOURNAL_FAILED\b/,
  /<qcow2>\.(overlap-check|encrypt) is any/, // refused whatever it says
];

test("query-qmp-schema: everything that ours says, QEMU's says too, but for what is of later versions", async (context) => {
  needQemu(context);
  const qemu = await negotiated();
  qemu.send('{"execute":"query-qmp-schema"}');
  const { return: theirs } = JSON.parse(await qemu.line()) as { return: Entry[] };
  const known = reach(theirs);
  const more = [...reach(introspect(commands, events) as unknown as Entry[])].filter((line) => !known.has(line));
  expect(more.filter((line) => !ours.some((pattern) => pattern.test(line)))).toEqual([]);
  expect(more.length).toBeGreaterThan(3); // the comparison sees differences
});

test("the schema refers only to types that it has, and has each once", () => {
  const schema = introspect(commands, events) as unknown as Entry[];
  const names = schema.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(() => reach(schema)).not.toThrow();
});

test("the generated types and the reference page are what the table says (node testing/generate.mjs writes them)", () => {
  const types = readFileSync(new URL("../generated/qmp-types.ts", import.meta.url), "utf8");
  expect(types === generateTypes(commands, events)).toBe(true);
  const page = readFileSync(new URL("../../REFERENCE.md", import.meta.url), "utf8");
  expect(page === generateReference(chapters, events)).toBe(true);
});
