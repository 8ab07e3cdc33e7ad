/** The machine by itself: each server is a script of bytes. What real servers say is in `peers.test.ts`. */
import { ClientHandshake, type HandshakeAction, type HandshakeWish, type NbdError } from "@heirloom/nbd";
import { describe, expect, test } from "vitest";
import {
  ACK,
  bytes,
  context,
  error,
  greeting,
  infoBlockSize,
  infoExport,
  listed,
  option,
  reply,
  u16,
  u32,
  u64,
  UNSUP,
} from "./wire.fixture.ts";

const EXPORT_NAME = 1;
const ABORT = 2;
const LIST = 3;
const STARTTLS = 5;
const INFO = 6;
const GO = 7;
const STRUCTURED = 8;
const LIST_META = 9;
const SET_META = 10;
const EXTENDED = 11;
const REP_SERVER = 2;
const REP_INFO = 3;
const REP_META = 4;

interface Run {
  readonly sent: Buffer;
  readonly last: HandshakeAction | undefined;
  readonly error: NbdError | undefined;
  readonly handshake: ClientHandshake;
}

/** Feeds a script in pieces of `piece` bytes, TLS at once where it is asked for. */
function run(wish: HandshakeWish, script: Uint8Array, piece = script.length || 1): Run {
  const handshake = new ClientHandshake(wish);
  const sent: Uint8Array[] = [];
  let last: HandshakeAction | undefined;
  const take = (actions: readonly HandshakeAction[]): void => {
    for (const action of actions) {
      if (action.kind === "send") sent.push(action.bytes);
      else last = action;
    }
  };
  for (let at = 0; at < script.length; at += piece) take(handshake.receive(script.subarray(at, at + piece)));
  return { sent: Buffer.concat(sent), last, error: last?.kind === "failed" ? last.error : undefined, handshake };
}

const wish = (exportName = "", contexts: string[] = [], tls = false): HandshakeWish => ({
  tls,
  goal: { kind: "transmission", exportName, contexts },
});
const goPayload = (name: string): Buffer => bytes(u32(Buffer.byteLength(name)), name, u16(3), u16(3), u16(1), u16(2)); // BLOCK_SIZE, NAME, DESCRIPTION
const metaPayload = (name: string, ...queries: string[]): Buffer =>
  bytes(u32(name.length), name, u32(queries.length), ...queries.flatMap((query) => [u32(query.length), query]));
const goReplies = (length = 4096, flags = 0xded): Buffer =>
  bytes(reply(GO, REP_INFO, infoExport(length, flags)), reply(GO, ACK));
/** A server that knows structured replies, up to the reply to GO. */
const structuredServer: Buffer = bytes(greeting(), reply(EXTENDED, UNSUP), reply(STRUCTURED, ACK));

describe("what is agreed on", () => {
  test("a server with everything: extended headers, contexts, all information", () => {
    const script = bytes(
      greeting(),
      reply(EXTENDED, ACK),
      reply(SET_META, REP_META, context(5, "base:allocation")),
      reply(SET_META, REP_META, context(9, "qemu:dirty-bitmap:b")),
      reply(SET_META, ACK),
      reply(GO, REP_INFO, bytes(u16(1), "canonical")),
      reply(GO, REP_INFO, bytes(u16(2), "a disk")),
      reply(GO, REP_INFO, infoBlockSize(512, 4096, 1 << 25)),
      reply(GO, REP_INFO, bytes(u16(99), "something new")),
      reply(GO, REP_INFO, infoExport(2 ** 53 - 1, 0x1ded)),
      reply(GO, ACK),
      "rest",
    );
    const contexts = ["base:allocation", "qemu:dirty-bitmap:b", "qemu:allocation-depth"];
    const { sent, last } = run(wish("disk", contexts), script);
    expect(last).toMatchObject({
      kind: "done",
      result: {
        kind: "transmission",
        agreement: {
          structured: true,
          extended: true,
          tls: false,
          contexts: [
            { id: 5, name: "base:allocation" },
            { id: 9, name: "qemu:dirty-bitmap:b" },
          ],
          export: {
            name: "disk",
            canonicalName: "canonical",
            description: "a disk",
            length: 2 ** 53 - 1,
            flags: 0x1ded,
            blockSize: { minimum: 512, preferred: 4096, maximum: 1 << 25 },
          },
        },
      },
    });
    expect(String(last?.kind === "done" && Buffer.from(last.rest))).toBe("rest");
    expect(sent).toEqual(
      bytes(
        u32(3),
        option(EXTENDED),
        option(SET_META, metaPayload("disk", ...contexts)),
        option(GO, goPayload("disk")),
      ),
    );
  });

  test("structured replies where there are no extended headers, simple ones where there are neither", () => {
    const structured = run(
      wish("x", ["base:allocation"]),
      bytes(structuredServer, reply(SET_META, UNSUP), goReplies()),
    );
    expect(structured.last).toMatchObject({
      result: { agreement: { structured: true, extended: false, contexts: [] } },
    });
    const simple = run(
      wish("x", ["base:allocation"]),
      bytes(greeting(), reply(EXTENDED, error(2)), reply(STRUCTURED, error(3)), goReplies()),
    );
    expect(simple.last).toMatchObject({ result: { agreement: { structured: false, contexts: [] } } });
    // Contexts need structured replies: they are not asked for.
    expect(simple.sent).toEqual(bytes(u32(3), option(EXTENDED), option(STRUCTURED), option(GO, goPayload("x"))));
  });

  test("an export's name is sent as its UTF-8 bytes", () => {
    const { sent } = run(wish("\u20ac/x"), bytes(structuredServer, goReplies()));
    expect(sent.subarray(-goPayload("\u20ac/x").length)).toEqual(goPayload("\u20ac/x"));
  });

  test("EXPORT_NAME where the server does not know GO, with and without its zeroes", () => {
    const tail = bytes(u64(1000), u16(0x8d));
    const noZeroes = run(wish("x"), bytes(structuredServer, reply(GO, UNSUP), tail));
    const expected = {
      kind: "done",
      result: {
        agreement: {
          structured: true,
          export: { length: 1000, flags: 0x8d, blockSize: { minimum: 1, preferred: 4096, maximum: 33554432 } },
        },
      },
    };
    expect(noZeroes.last).toMatchObject(expected);
    expect(noZeroes.sent.subarray(-17)).toEqual(option(EXPORT_NAME, "x"));
    const script = bytes(greeting(1), reply(EXTENDED, UNSUP), reply(STRUCTURED, ACK), reply(GO, UNSUP), tail);
    expect(run(wish("x"), script).last).toBeUndefined();
    const zeroes = run(wish("x"), bytes(script, Buffer.alloc(124)));
    expect(zeroes.last).toMatchObject(expected);
    expect(zeroes.sent.subarray(0, 4)).toEqual(u32(1));
  });

  test("a newstyle server that is not fixed gets EXPORT_NAME and no other option", () => {
    const { sent, last } = run(wish("x", ["base:allocation"]), bytes(greeting(0), u64(512), u16(1), Buffer.alloc(124)));
    expect(last).toMatchObject({ result: { agreement: { structured: false, export: { length: 512 } } } });
    expect(sent).toEqual(bytes(u32(0), option(EXPORT_NAME, "x")));
  });

  const oldstyle = bytes(
    "NBDMAGIC",
    Buffer.from("0000420281861253", "hex"),
    u64(512),
    u16(0),
    u16(7),
    Buffer.alloc(124),
  );

  test("an oldstyle server is taken at its word, and nothing is sent to it", () => {
    const { sent, last } = run(wish(""), oldstyle);
    expect(last).toMatchObject({ result: { agreement: { structured: false, export: { length: 512, flags: 7 } } } });
    expect(sent.length).toBe(0);
  });

  test("an oldstyle server has no names: another one was meant", () => {
    expect(run(wish("disk"), oldstyle).error?.code).toBe("ERR_NBD_EXPORT_UNKNOWN");
  });

  test("flags without HAS_FLAGS say nothing", () => {
    expect(run(wish(), bytes(structuredServer, goReplies(512, 0xdec))).last).toMatchObject({
      result: { agreement: { export: { flags: 0 } } },
    });
  });

  test("a maximum of 2^32-1 is no limit, rounded down to what can be sent", () => {
    const script = bytes(structuredServer, reply(GO, REP_INFO, infoBlockSize(4096, 512, 0xffffffff)), goReplies(8192));
    expect(run(wish(), script).last).toMatchObject({
      result: { agreement: { export: { blockSize: { minimum: 4096, preferred: 4096, maximum: 0xfffff000 } } } },
    });
  });

  test("the same is agreed on when every byte comes alone", () => {
    const script = bytes(structuredServer, reply(GO, REP_INFO, bytes(u16(2), "text")), goReplies(), "rest");
    const whole = run(wish("x"), script);
    for (const piece of [1, 2, 7, 19]) {
      const cut = run(wish("x"), script, piece);
      expect(cut.sent).toEqual(whole.sent);
      expect(cut.last).toMatchObject({ kind: "done", result: whole.last?.kind === "done" && whole.last.result });
    }
  });
});

describe("lists", () => {
  test("each export with its details; one that is refused is listed without", () => {
    const script = bytes(
      structuredServer,
      reply(LIST, REP_SERVER, listed("a", "first")),
      reply(LIST, REP_SERVER, listed("")),
      reply(LIST, ACK),
      reply(INFO, REP_INFO, infoExport(512, 3)),
      reply(INFO, ACK),
      reply(LIST_META, REP_META, context(0, "base:allocation")),
      reply(LIST_META, ACK),
      reply(INFO, error(2), "not for you"),
    );
    const { sent, last } = run({ tls: false, goal: { kind: "list" } }, script);
    expect(last).toMatchObject({
      kind: "done",
      result: {
        kind: "list",
        exports: [
          { name: "a", description: "first", details: { length: 512, contexts: ["base:allocation"] } },
          { name: "", description: "", details: undefined },
        ],
      },
    });
    expect(sent).toEqual(
      bytes(
        u32(3),
        option(EXTENDED),
        option(STRUCTURED),
        option(LIST),
        option(INFO, goPayload("a")),
        option(LIST_META, metaPayload("a")),
        option(INFO, goPayload("")),
        option(ABORT),
      ),
    );
  });

  test("one export is described without being used", () => {
    const script = bytes(
      structuredServer,
      reply(INFO, REP_INFO, infoExport(512, 3)),
      reply(INFO, ACK),
      reply(LIST_META, UNSUP),
    );
    const { sent, last } = run({ tls: false, goal: { kind: "description", exportName: "a" } }, script);
    expect(last).toMatchObject({ result: { exports: [{ name: "a", details: { length: 512, contexts: [] } }] } });
    expect(sent.subarray(-16)).toEqual(option(ABORT));
  });

  test("a server that is too old to be asked", () => {
    const { error } = run({ tls: false, goal: { kind: "list" } }, greeting(0));
    expect(error).toMatchObject({ code: "ERR_NBD_UNSUPPORTED" });
  });
});

describe("TLS", () => {
  test("is the first option, and the rest comes through it", () => {
    const handshake = new ClientHandshake(wish("x", [], true));
    const first = handshake.receive(greeting());
    expect(first).toEqual(
      [
        { kind: "send", bytes: u32(3) },
        { kind: "send", bytes: option(STARTTLS) },
      ].map(({ kind, bytes }) => ({ kind, bytes: new Uint8Array(bytes) })),
    );
    expect(handshake.receive(reply(STARTTLS, ACK))).toEqual([{ kind: "start-tls" }]);
    expect(handshake.secured()).toEqual([{ kind: "send", bytes: new Uint8Array(option(EXTENDED)) }]);
    const rest = handshake.receive(bytes(reply(EXTENDED, UNSUP), reply(STRUCTURED, ACK), goReplies()));
    expect(rest.at(-1)).toMatchObject({ kind: "done", result: { agreement: { tls: true } } });
  });

  test.each([1, 2, 3, 4, 7])("is not done without where the server answers with error %i", (number) => {
    const { sent, error: failure } = run(wish("x", [], true), bytes(greeting(), reply(STARTTLS, error(number), "no")));
    expect(failure).toMatchObject({ code: "ERR_NBD_TLS", reply: error(number) });
    expect(failure?.message).toContain('("no")');
    expect(sent).toEqual(bytes(u32(3), option(STARTTLS), option(ABORT)));
  });

  test.each([0, 2])("is not done without where the server is too old (flags %i)", (flags) => {
    const { sent, error: failure } = run(wish("x", [], true), bytes(greeting(flags), Buffer.alloc(134)));
    expect(failure?.code).toBe("ERR_NBD_TLS");
    expect(sent.length).toBe(4);
  });

  test("bytes in the clear after the server's consent end the connection, in the same packet or in another", () => {
    const injected = run(wish("x", [], true), bytes(greeting(), reply(STARTTLS, ACK), reply(EXTENDED, UNSUP)));
    expect(injected.error?.code).toBe("ERR_NBD_TLS");
    expect(injected.handshake.secured()).toEqual([]);
    const later = run(wish("x", [], true), bytes(greeting(), reply(STARTTLS, ACK)));
    expect(later.handshake.receive(Buffer.from([0])).at(-1)).toMatchObject({ error: { code: "ERR_NBD_TLS" } });
  });

  test("a server that wants it of a client without is named as the reason", () => {
    const { error: failure } = run(wish(), bytes(greeting(), reply(EXTENDED, error(5))));
    expect(failure).toMatchObject({ code: "ERR_NBD_TLS" });
    expect(failure?.message).toContain("nbds");
  });
});

describe("refusals", () => {
  test.each([
    [6, "ERR_NBD_EXPORT_UNKNOWN", "no such export"],
    [2, "ERR_NBD_REFUSED", "policy"],
    [7, "ERR_NBD_REFUSED", "shutting down"],
    [5, "ERR_NBD_TLS", "wants TLS"],
    [77, "ERR_NBD_REFUSED", "error 77"],
  ])("GO answered with error %i is %s, and the server is told goodbye", (number, code, words) => {
    const run1 = run(wish("x"), bytes(structuredServer, reply(GO, error(number), "its words")));
    expect(run1.error).toMatchObject({ code, reply: error(number) });
    expect(run1.error?.message).toContain(words);
    expect(run1.error?.message).toContain('("its words")');
    expect(run1.sent.subarray(-16)).toEqual(option(ABORT));
  });

  test("a server's words cannot move the cursor of who reads them", () => {
    const text = bytes("a\x1b[2Jb\n\u202ec", Buffer.from([0xff]));
    const { error: failure } = run(wish("x"), bytes(structuredServer, reply(GO, error(2), text)));
    expect(failure?.message).toContain('("a\ufffd[2Jb\ufffd\ufffdc\ufffd")');
  });

  test("a server that closes after EXPORT_NAME has refused the export", () => {
    const { handshake } = run(wish("x"), bytes(structuredServer, reply(GO, UNSUP)));
    expect(handshake.ended()).toMatchObject([{ kind: "failed", error: { code: "ERR_NBD_REFUSED" } }]);
    expect(handshake.ended()).toEqual([]);
  });

  test("a server that closes at any other byte is named with what was awaited", () => {
    const script = bytes(structuredServer, goReplies());
    for (let length = 0; length < script.length; length++) {
      const { handshake, last } = run(wish("x"), script.subarray(0, length));
      expect(last).toBeUndefined();
      expect(handshake.ended()).toMatchObject([{ kind: "failed", error: { code: "ERR_NBD_PROTOCOL" } }]);
    }
  });
});

describe("a server that lies", () => {
  const long = "x".repeat(4097);
  test.each<[string, Buffer]>([
    ["is no NBD server", Buffer.from("SSH-2.0-OpenSSH_9.2p1\r\n")],
    ["is of no known style", bytes("NBDMAGIC", "IHAVEOPX", u16(3))],
    ["answers with a wrong magic number", bytes(greeting(), u64(1), u32(EXTENDED), u32(ACK), u32(0))],
    ["answers another option", bytes(greeting(), reply(STRUCTURED, ACK))],
    ["announces a reply of 4 GiB", bytes(greeting(), reply(EXTENDED, UNSUP).subarray(0, 16), u32(0xffffffff))],
    ["announces a reply past the limit", bytes(greeting(), reply(EXTENDED, UNSUP).subarray(0, 16), u32(65537))],
    ["consents with a payload", bytes(greeting(), reply(EXTENDED, ACK, "x"))],
    ["answers with what is no answer", bytes(greeting(), reply(EXTENDED, REP_SERVER, listed("x")))],
    ["answers GO with an export of a list", bytes(structuredServer, reply(GO, REP_SERVER, listed("x")))],
    ["consents to GO without a length", bytes(structuredServer, reply(GO, ACK))],
    ["gives information without a type", bytes(structuredServer, reply(GO, REP_INFO, "x"))],
    ["cuts the length off", bytes(structuredServer, reply(GO, REP_INFO, infoExport(1).subarray(0, 11)))],
    ["adds to the length", bytes(structuredServer, reply(GO, REP_INFO, bytes(infoExport(1), "x")))],
    ["cuts block sizes off", bytes(structuredServer, reply(GO, REP_INFO, infoBlockSize(1, 1, 1).subarray(0, 13)))],
    ["gives a name that is too long", bytes(structuredServer, reply(GO, REP_INFO, bytes(u16(1), long)))],
    ["gives a name with a NUL", bytes(structuredServer, reply(GO, REP_INFO, bytes(u16(1), "a\0b")))],
    ["gives a name that is no UTF-8", bytes(structuredServer, reply(GO, REP_INFO, bytes(u16(1), Buffer.from([0xff]))))],
    ...[0, 3, 131072, 0x80000000].map((minimum): [string, Buffer] => [
      `has a minimum block size of ${minimum}`,
      bytes(structuredServer, reply(GO, REP_INFO, infoBlockSize(minimum, 4096, 0xffffffff)), goReplies()),
    ]),
    [
      "has a maximum block size under its minimum",
      bytes(structuredServer, reply(GO, REP_INFO, infoBlockSize(4096, 4096, 512)), goReplies()),
    ],
    ["has extended headers but no GO", bytes(greeting(), reply(EXTENDED, ACK), reply(GO, UNSUP))],
  ])("%s", (_what, script) => {
    // Information is looked at when all of it is there.
    expect(run(wish("x"), bytes(script, goReplies())).error?.code).toBe("ERR_NBD_PROTOCOL");
  });

  test.each<[string, Buffer]>([
    ["selects what was not asked for", reply(SET_META, REP_META, context(1, "qemu:other"))],
    ["selects without a name", reply(SET_META, REP_META, u32(1))],
    [
      "gives one number twice",
      bytes(reply(SET_META, REP_META, context(1, "a:a")), reply(SET_META, REP_META, context(1, "b:b"))),
    ],
    [
      "gives one name twice",
      bytes(reply(SET_META, REP_META, context(1, "a:a")), reply(SET_META, REP_META, context(2, "a:a"))),
    ],
  ])("%s among contexts", (_what, replies) => {
    const script = bytes(structuredServer, replies, reply(SET_META, ACK), goReplies());
    expect(run(wish("x", ["a:a", "b:b"]), script).error?.code).toBe("ERR_NBD_PROTOCOL");
  });

  test.each<[string, Buffer]>([
    ["a name longer than its reply", u32(5)],
    ["no length of the name", u16(0)],
    ["a name of 4 GiB", u32(0xffffffff)],
  ])("lists %s", (_what, payload) => {
    const script = bytes(structuredServer, reply(LIST, REP_SERVER, payload), reply(LIST, ACK));
    expect(run({ tls: false, goal: { kind: "list" } }, script).error?.code).toBe("ERR_NBD_PROTOCOL");
  });

  test("information without end comes to an end", () => {
    const { handshake } = run(wish("x"), structuredServer);
    const one = reply(GO, REP_INFO, bytes(u16(99), Buffer.alloc(1000)));
    const many = Buffer.concat(Array.from({ length: 100 }, () => one));
    let received = 0;
    let actions: HandshakeAction[] = [];
    while (actions.length === 0) {
      actions = handshake.receive(many);
      received += many.length;
      expect(received).toBeLessThan(5e6);
    }
    expect(actions).toMatchObject([{ kind: "failed", error: { code: "ERR_NBD_PROTOCOL" } }]);
  });

  test("a disk of more than 2^53-1 bytes is not supported, rather than rounded", () => {
    const script = bytes(structuredServer, reply(GO, REP_INFO, infoExport(2n ** 53n)), reply(GO, ACK));
    expect(run(wish("x"), script).error?.code).toBe("ERR_NBD_UNSUPPORTED");
  });
});
