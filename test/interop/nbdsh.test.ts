/**
 * What only a program that talks NBD itself asks for: flags that others do not set, many requests in flight on one
 * connection, and requests that a client should not send, which a server must refuse and survive.
 */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { firstDifference, Interop, KiB, MiB, noise, run } from "./interop.fixture.ts";
import { servers } from "./servers.fixture.ts";

/** Debian's, whose modules its packages are for; the first one in PATH may be another. */
const python = "/usr/bin/python3";

/** Runs a Python program with `h`, a handle of libnbd that is connected. @returns what it printed */
async function nbdsh(uri: string, program: string, prepare = ""): Promise<string> {
  const lines = [
    "import errno, hashlib, os, random, struct",
    prepare,
    `h.connect_uri(${JSON.stringify(uri)})`,
    program,
  ];
  return run(python, ["-m", "nbd", "-c", lines.join("\n")]);
}

/** What a request that must be refused was answered with. */
const refusal = `
def refusal(work):
    try:
        work()
    except nbd.Error as error:
        return error.errno or "EINVAL"
    return "none"
`;

describe.for(servers)("$name answers libnbd", (server) => {
  test("256 requests in flight on one connection, each read what was last written there", async (context) => {
    const scene = await Interop.open(context, server, ["nbdsh"], noise(8 * MiB, 1));
    const output = await nbdsh(
      scene.uri,
      `
model = bytearray(h.pread(8 << 20, 0))
print(hashlib.sha256(model).hexdigest())
random.seed(5)
slots = 256
size = len(model) // slots
for round in range(6):
    flight = []
    for slot in random.sample(range(slots), slots):
        offset = slot * size + random.randrange(size // 2)
        length = random.randrange(1, size // 2)
        if (slot + round) % 2:
            data = random.randbytes(length)
            model[offset:offset + length] = data
            buffer = nbd.Buffer.from_bytearray(bytearray(data))
            flight.append((h.aio_pwrite(buffer, offset, flags=nbd.CMD_FLAG_FUA if slot % 5 == 0 else 0), None, None, buffer))
        else:
            buffer = nbd.Buffer(length)
            flight.append((h.aio_pread(buffer, offset), buffer, (offset, length), None))
    # No two overlap, so the answers may come in any order.
    for cookie, buffer, where, _ in flight:
        while not h.aio_command_completed(cookie):
            h.poll(-1)
        if buffer is not None:
            offset, length = where
            assert buffer.to_bytearray() == model[offset:offset + length], (round, offset, length)
h.flush()
print(hashlib.sha256(model).hexdigest())
`,
    );
    const [before, after] = output.trim().split("\n");
    expect(before).toBe(sha256(scene.expected));
    expect(after).toBe(sha256(scene.stored));
  });

  test("reads with DF, across data and holes, are the same bytes", async (context) => {
    const content = noise(2 * MiB, 2);
    content.fill(0, 256 * KiB, MiB);
    const scene = await Interop.open(context, server, ["nbdsh"], content);
    const output = await nbdsh(
      scene.uri,
      `
chunks = []
plain = h.pread_structured(1 << 20, 100000, lambda data, offset, status, error: chunks.append((offset, len(data), status)))
whole = []
once = h.pread_structured(1 << 20, 100000, lambda data, offset, status, error: whole.append((offset, len(data), status)), nbd.CMD_FLAG_DF)
assert bytes(plain) == bytes(once)
assert len(whole) == 1, whole
# The pieces cover the request once, in whatever order.
end = 100000
for offset, length, status in sorted(chunks):
    assert offset == end, chunks
    end += length if status == nbd.READ_DATA else 0
    if status == nbd.READ_HOLE: end = min((o for o, _, _ in chunks if o > offset), default=100000 + (1 << 20))
print(hashlib.sha256(plain).hexdigest())
`,
    );
    expect(output.trim()).toBe(sha256(scene.expected.subarray(100_000, 100_000 + MiB)));
  });

  test("block status of one extent, with REQ_ONE, begins where it was asked and goes no further", async (context) => {
    const content = Buffer.alloc(4 * MiB);
    noise(MiB, 3).copy(content, MiB);
    const scene = await Interop.open(context, server, ["nbdsh"], content);
    const output = await nbdsh(
      scene.uri,
      `
seen = []
h.block_status(4 << 20, 0, lambda name, offset, entries, error: seen.append((name, offset, entries)), nbd.CMD_FLAG_REQ_ONE)
h.block_status(1 << 16, (1 << 20) + 4096, lambda name, offset, entries, error: seen.append((name, offset, entries)), nbd.CMD_FLAG_REQ_ONE)
for name, offset, entries in seen: print(name, offset, *entries)
`,
      `h.add_meta_context("base:allocation")`,
    );
    expect(output.trim().split("\n")).toEqual([
      `base:allocation 0 ${MiB} 3`,
      `base:allocation ${MiB + 4096} ${64 * KiB} 0`,
    ]);
  });

  test("zeroes: with NO_HOLE they stay allocated, with FAST_ZERO they are zero or refused", async (context) => {
    const scene = await Interop.open(context, server, ["nbdsh"], noise(2 * MiB, 4));
    const output = await nbdsh(
      scene.uri,
      `
${refusal}
h.zero(1 << 20, 0, nbd.CMD_FLAG_NO_HOLE)
h.flush()
print(refusal(lambda: h.zero(1 << 18, 1 << 20, nbd.CMD_FLAG_FAST_ZERO)) if h.can_fast_zero() else "ENOTSUP")
h.zero(12345, (1 << 20) + (1 << 18) + 1, nbd.CMD_FLAG_FUA)
`,
    );
    const fast = output.trim();
    // A file of 2 MiB of which at most the fast zeroes and the last ones (up to three pages) are a hole.
    const { blocks } = statSync(scene.path("disk.raw"));
    expect(blocks * 512).toBeGreaterThanOrEqual(2 * MiB - 256 * KiB - 12 * KiB);
    expect(["none", "ENOTSUP"]).toContain(fast);
    scene.expected.fill(0, 0, MiB + (fast === "none" ? 256 * KiB : 0));
    scene.expected.fill(0, MiB + 256 * KiB + 1, MiB + 256 * KiB + 12_346);
    expect(firstDifference(scene.stored, scene.expected)).toBe(-1);
  });

  test("cache, flush and reads at both ends", async (context) => {
    const scene = await Interop.open(context, server, ["nbdsh"], noise(MiB + 3 * 512, 5));
    const output = await nbdsh(
      scene.uri,
      `
h.cache(1 << 20, 512)
h.flush()
print(h.pread(1, 0).hex(), h.pread(1, h.get_size() - 1).hex(), h.get_size())
`,
    );
    const { expected } = scene;
    expect(output.trim()).toBe(
      `${expected.subarray(0, 1).toString("hex")} ${expected.subarray(-1).toString("hex")} ${expected.length}`,
    );
  });

  test("requests beyond the end, of no known flag or of no known command are refused, and the next one is served", async (context) => {
    const scene = await Interop.open(context, server, ["nbdsh"], noise(MiB, 6));
    const output = await nbdsh(
      scene.uri,
      `
${refusal}
size = h.get_size()
print(refusal(lambda: h.pread(1024, size - 512)))
print(refusal(lambda: h.pwrite(bytes(1024), size - 512)))
print(refusal(lambda: h.trim(1024, size - 512)))
print(refusal(lambda: h.zero(1024, size - 512)))
print(refusal(lambda: h.pread(512, 1 << 62)))
print(hashlib.sha256(h.pread(size, 0)).hexdigest())
`,
      "h.set_strict_mode(0)",
    );
    const answers = output.trim().split("\n");
    expect(answers.pop()).toBe(sha256(scene.expected));
    // The protocol asks for ENOSPC where a write goes past the end; EINVAL is what others say.
    for (const answer of answers) expect(["EINVAL", "ENOSPC"]).toContain(answer);
    expect(scene.stored.equals(scene.expected)).toBe(true);
  });

  test("a write to a read-only export is refused with EPERM or EINVAL, and changes nothing", async (context) => {
    const scene = await Interop.open(context, server, ["nbdsh"], noise(MiB, 7), { readOnly: true });
    const output = await nbdsh(
      scene.uri,
      `
${refusal}
print(refusal(lambda: h.pwrite(bytes(512), 0)))
print(refusal(lambda: h.zero(512, 0)))
print(refusal(lambda: h.trim(512, 0)))
print(hashlib.sha256(h.pread(h.get_size(), 0)).hexdigest())
`,
      "h.set_strict_mode(0)",
    );
    const answers = output.trim().split("\n");
    expect(answers.pop()).toBe(sha256(scene.expected));
    for (const answer of answers) expect(["EPERM", "EROFS", "EINVAL"]).toContain(answer);
    expect(readFileSync(scene.path("disk.raw")).equals(scene.expected)).toBe(true);
  });

  test("what one connection has flushed another one reads (multi-conn)", async (context) => {
    const scene = await Interop.open(context, server, ["nbdsh"], noise(4 * MiB, 8));
    await nbdsh(
      scene.uri,
      `
assert h.can_multi_conn()
others = []
for index in range(4):
    other = nbd.NBD()
    other.connect_uri(${JSON.stringify(scene.uri)})
    others.append(other)
random.seed(9)
for round in range(64):
    writer = others[round % 4]
    offset = random.randrange(4 << 20) & ~4095
    data = random.randbytes(4096)
    writer.pwrite(data, offset)
    writer.flush()
    for reader in others + [h]:
        assert bytes(reader.pread(4096, offset)) == data, (round, offset)
for other in others: other.shutdown()
`,
    );
  });
});

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
