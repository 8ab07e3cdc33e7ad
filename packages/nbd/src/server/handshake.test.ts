/** The handshake, option by option. Texts and codes are what qemu-nbd 7.2 answers to the same bytes, or the protocol's text. */
import { describe, expect, test } from "vitest";
import { ServerHandshake } from "../../dist/server/handshake.js";
import { Directory, offerOf, pour, Scene, usualDirectory } from "./handshake.fixture.ts";
import {
  clientFlags,
  exportName,
  fixedNewstyle,
  greetingText,
  info,
  metaContext,
  noZeroes,
  opt,
  option,
  text,
  u16,
  u32,
} from "./option-wire.fixture.ts";

describe("the greeting", () => {
  test("is NBDMAGIC, IHAVEOPT and the flags of fixed newstyle without zeroes", () => {
    expect(Buffer.from(new ServerHandshake(new Directory(), "off").greet()).toString("latin1")).toBe(greetingText);
  });

  test.each([0, 1, 2, 3])("client flags %i are taken", (flags) => {
    expect(new Scene({ flags }).outcome).toEqual({ type: "more" });
  });

  test.each([4, 7, 0x10000, 0x80000000])("client flags %i, which nobody defined, close the connection", (flags) => {
    expect(new Scene({ flags }).outcome).toMatchObject({ type: "closed", code: "ERR_NBD_PROTOCOL" });
  });

  test("a client without fixed newstyle may name an export", () => {
    const scene = new Scene({ flags: 0 });
    expect(scene.sendRaw(exportName("disk")).toString("hex")).toBe(`00000000001000000d6d${"00".repeat(124)}`);
    expect(scene.outcome.type).toBe("transmission");
  });

  test.each([opt.abort, opt.list, opt.info, opt.startTls, 99])(
    "option %i of a client without fixed newstyle closes the connection without a reply",
    (number) => {
      const scene = new Scene({ flags: noZeroes });
      expect(scene.sendRaw(option(number))).toHaveLength(0);
      expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_PROTOCOL" });
    },
  );
});

describe("framing", () => {
  test("a wrong magic closes the connection as soon as its eight bytes are there", () => {
    const scene = new Scene();
    expect(scene.sendRaw(Buffer.from("IHAVEOP"))).toHaveLength(0);
    expect(scene.outcome.type).toBe("more");
    scene.sendRaw(Buffer.from("X"));
    expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_PROTOCOL" });
  });

  test("HTTP closes the connection", () => {
    const handshake = new ServerHandshake(new Directory(), "off");
    expect(pour(handshake, Buffer.from("GET / HTTP/1.1\r\n\r\n"))).toMatchObject({
      output: Buffer.alloc(0),
      outcome: { type: "closed", code: "ERR_NBD_PROTOCOL" },
    });
  });

  test("an option of 32 MiB is drained and refused, and the next one is answered", () => {
    const scene = new Scene();
    const chunk = Buffer.alloc(1024 * 1024, 0x55);
    scene.sendRaw(Buffer.from("IHAVEOPT"), u32(99), u32(32 * 1024 * 1024));
    for (let sent = 0; sent < 31; sent++) expect(scene.sendRaw(chunk)).toHaveLength(0);
    expect(scene.send(chunk)).toEqual(["errUnsup Unsupported option 99 (<unknown>)"]);
    expect(scene.send(option(opt.list))).toHaveLength(3);
  });

  test("an option that says it is a byte longer than 32 MiB closes the connection", () => {
    const scene = new Scene();
    expect(scene.sendRaw(Buffer.from("IHAVEOPT"), u32(99), u32(32 * 1024 * 1024 + 1))).toHaveLength(0);
    expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_LIMIT" });
  });

  test("draining holds no memory", () => {
    const scene = new Scene();
    scene.sendRaw(Buffer.from("IHAVEOPT"), u32(99), u32(32 * 1024 * 1024));
    const chunk = Buffer.alloc(64 * 1024);
    const before = process.memoryUsage().arrayBuffers;
    for (let sent = 0; sent < 511; sent++) scene.handshake.receive(chunk);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
  });

  test("options that come together are answered in order", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.structuredReply), option(98), option(opt.structuredReply))).toEqual([
      "ack",
      "errUnsup Unsupported option 98 (<unknown>)",
      "errInvalid structured reply already negotiated",
    ]);
  });

  test("more payload than two of the longest options and 2 KiB for each other closes the connection", () => {
    const scene = new Scene();
    const chunk = Buffer.alloc(32 * 1024 * 1024);
    let options = 0;
    while (scene.outcome.type === "more") {
      scene.sendRaw(Buffer.from("IHAVEOPT"), u32(99), u32(chunk.length));
      if (scene.outcome.type === "more") scene.sendRaw(chunk);
      options++;
    }
    expect(options).toBe(7);
    expect(scene.outcome).toMatchObject({ code: "ERR_NBD_LIMIT" });
  });

  test("the 65,537th option closes the connection, and the 65,536 before it are answered", () => {
    const scene = new Scene();
    const many = Buffer.concat(Array.from({ length: 1024 }, () => option(99)));
    for (let sent = 0; sent < 64; sent++) expect(scene.sendRaw(many)).toHaveLength(1024 * (20 + 33));
    expect(scene.sendRaw(option(99))).toHaveLength(0);
    expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_LIMIT" });
  });

  test("replies come in steps, so that a client that does not read gets no more memory than one", () => {
    const offers = Array.from({ length: 500 }, (_, index) =>
      offerOf(`disk ${index}`, { description: "x".repeat(4000) }),
    );
    const scene = new Scene({ directory: new Directory(...offers) });
    const lists = Buffer.concat(Array.from({ length: 50 }, () => option(opt.list)));
    let step = scene.handshake.receive(lists); // all at once
    let total = 0;
    let steps = 0;
    while (step.outcome.type === "flush") {
      expect(step.output.length).toBeLessThan(64 * 1024 + 4100);
      total += step.output.length;
      steps++;
      step = scene.handshake.receive(new Uint8Array(0));
    }
    expect(total + step.output.length).toBeGreaterThan(50 * 500 * 4000);
    expect(steps).toBeGreaterThan(1400);
  });

  test("bytes that are handed over after the end are a bug of the caller", () => {
    const scene = new Scene();
    scene.send(option(opt.abort));
    expect(() => scene.handshake.receive(new Uint8Array(1))).toThrow("invariant");
    expect(() => scene.handshake.tlsStarted()).toThrow("invariant");
  });
});

describe("EXPORT_NAME", () => {
  test("gets length and flags, without zeroes where the client asked for none", () => {
    const scene = new Scene();
    expect(scene.sendRaw(exportName("disk")).toString("hex")).toBe("00000000001000000d6d");
    expect(scene.outcome).toEqual({
      type: "transmission",
      negotiated: { offer: scene.directory.find("disk"), structured: false, extended: false, contexts: [] },
      unread: new Uint8Array(0),
    });
  });

  test("gets 124 zeroes where the client did not", () => {
    expect(new Scene({ flags: fixedNewstyle }).sendRaw(exportName("disk"))).toHaveLength(134);
  });

  test("no name is the name of the default export", () => {
    const scene = new Scene();
    scene.sendRaw(exportName(""));
    expect(scene.outcome).toMatchObject({ type: "transmission", negotiated: { offer: { name: "" } } });
  });

  test("after structured replies the flags have SEND_DF", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.structuredReply))).toEqual(["ack"]);
    expect(scene.sendRaw(exportName("disk")).toString("hex")).toBe("00000000001000000ded");
    expect(scene.outcome).toMatchObject({ negotiated: { structured: true, extended: false } });
  });

  test("contexts that were selected for it are negotiated", () => {
    const scene = new Scene();
    scene.send(option(opt.structuredReply), metaContext(opt.setMetaContext, "disk", "base:allocation"));
    scene.sendRaw(exportName("disk"));
    expect(scene.outcome).toMatchObject({ negotiated: { contexts: [{ id: 1, name: "base:allocation" }] } });
  });

  test("what comes behind it belongs to the transmission", () => {
    const scene = new Scene();
    scene.sendRaw(exportName("disk"), Buffer.from("first request"));
    expect(scene.outcome).toMatchObject({ unread: new Uint8Array(Buffer.from("first request")) });
  });

  test.each([
    ["an unknown name", exportName("nothing"), "ERR_NBD_REFUSED"],
    [
      "a name longer than 4096 bytes, before it is all there",
      exportName("n".repeat(4097)).subarray(0, 16),
      "ERR_NBD_PROTOCOL",
    ],
    ["a name with NUL", exportName("disk\0"), "ERR_NBD_PROTOCOL"],
    ["a name that is not UTF-8", option(opt.exportName, Buffer.from([0xff, 0xfe])), "ERR_NBD_PROTOCOL"],
  ])("%s closes the connection without a reply", (_, bytes, code) => {
    const scene = new Scene();
    expect(scene.sendRaw(bytes)).toHaveLength(0);
    expect(scene.outcome).toMatchObject({ type: "closed", code });
  });

  test("a byte order mark is part of a name", () => {
    const scene = new Scene();
    scene.sendRaw(exportName("\ufeffdisk"));
    expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_REFUSED" });
  });

  test("is refused once extended headers are negotiated", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.extendedHeaders))).toEqual(["ack"]);
    expect(scene.sendRaw(exportName("disk"))).toHaveLength(0);
    expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_REFUSED" });
  });

  test("of an export whose blocks are 4096 bytes closes the connection, of one with 512 does not", () => {
    const blockSize = { preferred: 4096, maximum: 1024 * 1024 };
    const directory = new Directory(
      offerOf("512", { blockSize: { minimum: 512, ...blockSize } }),
      offerOf("4096", { blockSize: { minimum: 4096, ...blockSize } }),
    );
    const small = new Scene({ directory });
    small.sendRaw(exportName("512"));
    expect(small.outcome.type).toBe("transmission");
    const large = new Scene({ directory });
    expect(large.sendRaw(exportName("4096"))).toHaveLength(0);
    expect(large.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_REFUSED" });
  });
});

describe("ABORT", () => {
  test("is acknowledged, and closes the connection", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.abort))).toEqual(["ack"]);
    expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_ABORTED" });
  });

  test("with a payload is acknowledged when that is drained, and nothing behind it is answered", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.abort, "good bye"), option(opt.list))).toEqual(["ack"]);
    expect(scene.outcome).toMatchObject({ code: "ERR_NBD_ABORTED" });
  });
});

describe("LIST", () => {
  test("names every export with its description in the order of their creation", () => {
    expect(new Scene().send(option(opt.list))).toEqual(["server disk: the guest's", "server : ", "ack"]);
  });

  test("of no exports is an acknowledgement", () => {
    expect(new Scene({ directory: new Directory() }).send(option(opt.list))).toEqual(["ack"]);
  });

  test("with a payload is refused", () => {
    expect(new Scene().send(option(opt.list, "x"))).toEqual(["errInvalid option 'list' has unexpected length"]);
  });

  test("names in UTF-8 keep their bytes", () => {
    const scene = new Scene({ directory: new Directory(offerOf("größe 磁盘")) });
    expect(scene.send(option(opt.list))).toEqual(["server größe 磁盘: ", "ack"]);
  });
});

describe("INFO and GO", () => {
  const everything = ["info 000264657363", "info 0003000000010000100002000000", "info 000000000000001000000d6d"];
  const described = (): Directory => new Directory(offerOf("exp", { description: "desc" }));

  test("INFO tells description, block size and export without being asked, and is acknowledged", () => {
    const scene = new Scene({ directory: described() });
    expect(scene.send(info(opt.info, "exp"))).toEqual([...everything, "ack"]);
    expect(scene.outcome.type).toBe("more");
  });

  test("the name comes first where it was asked for, and unknown kinds of information are ignored", () => {
    const scene = new Scene({ directory: described() });
    expect(scene.send(info(opt.info, "exp", 1, 2, 77))).toEqual(["info 0001657870", ...everything, "ack"]);
  });

  test("no description is told where there is none", () => {
    expect(new Scene().send(info(opt.info, "", 2))).toEqual([...everything.slice(1), "ack"]);
  });

  test("GO tells the same and begins the transmission", () => {
    const scene = new Scene({ directory: described() });
    expect(scene.send(info(opt.go, "exp", 3))).toEqual([...everything, "ack"]);
    expect(scene.outcome).toEqual({
      type: "transmission",
      negotiated: { offer: scene.directory.find("exp"), structured: false, extended: false, contexts: [] },
      unread: new Uint8Array(0),
    });
  });

  test("requests behind GO are handed on", () => {
    const scene = new Scene();
    scene.send(info(opt.go, "disk"), Buffer.from([0x25, 0x60, 0x95, 0x13]));
    expect(scene.outcome).toMatchObject({ unread: Uint8Array.of(0x25, 0x60, 0x95, 0x13) });
  });

  test.each([
    ["an unknown name", info(opt.info, "nope"), "errUnknown export 'nope' not present"],
    [
      "a long unknown name, which is told to 80 bytes",
      info(opt.info, "x".repeat(100)),
      `errUnknown export '${"x".repeat(80)}...' not present`,
    ],
    [
      "one of characters of two bytes",
      info(opt.go, "é".repeat(60)),
      `errUnknown export '${"é".repeat(40)}...' not present`,
    ],
    [
      "80 bytes, which are told whole",
      info(opt.info, "y".repeat(80)),
      `errUnknown export '${"y".repeat(80)}' not present`,
    ],
    ["no payload", option(opt.info), "errInvalid Inconsistent lengths in option info"],
    ["three bytes", option(opt.go, "abc"), "errInvalid Inconsistent lengths in option go"],
    ["a name that is cut off", option(opt.info, u32(5)), "errInvalid Inconsistent lengths in option info"],
    [
      "requests that are cut off",
      option(opt.info, text("disk"), u16(3), u16(1)),
      "errInvalid Inconsistent lengths in option info",
    ],
    ["no requests", option(opt.info, text("disk")), "errInvalid Inconsistent lengths in option info"],
    ["a name with NUL", info(opt.info, "a\0b"), "errInvalid Unexpected embedded NUL in option info"],
    ["a name of 4097 bytes", info(opt.info, "n".repeat(4097)), "errInvalid Invalid name length: 4097"],
    ["a byte too many", option(opt.info, text("disk"), u16(0), "z"), "errInvalid option 'info' has unexpected length"],
    [
      "a name that is not UTF-8",
      option(opt.info, u32(1), Buffer.from([0xff]), u16(0)),
      "errInvalid Name that is not UTF-8 in option info",
    ],
    [
      "more than 256 KiB",
      option(opt.go, Buffer.alloc(256 * 1024 + 1)),
      "errTooBig option 'go' has 262145 bytes, of which 262144 are the most",
    ],
  ])("%s is refused, and the connection goes on", (_, bytes, reply) => {
    const scene = new Scene();
    expect(scene.send(bytes)).toEqual([reply]);
    expect(scene.send(option(opt.structuredReply))).toEqual(["ack"]);
  });

  test("the longest INFO that the protocol allows is answered", () => {
    const name = "n".repeat(4096);
    const scene = new Scene({ directory: new Directory(offerOf(name)) });
    const asked = Array.from({ length: 65535 }, (_, index) => index);
    expect(scene.send(info(opt.info, name, ...asked)).at(-1)).toBe("ack");
  });

  test("an export that goes away between INFO and GO is unknown, and the client may choose another", () => {
    const scene = new Scene();
    expect(scene.send(info(opt.info, "disk")).at(-1)).toBe("ack");
    scene.directory.offers.delete("disk");
    expect(scene.send(info(opt.go, "disk"))).toEqual(["errUnknown export 'disk' not present"]);
    expect(scene.send(info(opt.go, "")).at(-1)).toBe("ack");
    expect(scene.outcome).toMatchObject({ type: "transmission", negotiated: { offer: { name: "" } } });
  });

  describe("of an export with blocks of 4096 bytes", () => {
    const scene = (minimum = 4096): Scene =>
      new Scene({
        directory: new Directory(offerOf("d", { blockSize: { minimum, preferred: 4096, maximum: 1 << 20 } })),
      });
    const sizes = "info 0003000010000000100000100000";
    const required = "errBlockSizeReqd request NBD_INFO_BLOCK_SIZE to use this export";

    test("INFO without asking for block sizes tells them, and that they must be asked for", () => {
      expect(scene().send(info(opt.info, "d"))).toEqual([sizes, "info 000000000000001000000d6d", required]);
    });

    test("GO without asking is refused the same way, and haggling goes on", () => {
      const { send, outcome } = { send: scene(), outcome: "more" };
      expect(send.send(info(opt.go, "d")).at(-1)).toBe(required);
      expect(send.outcome.type).toBe(outcome);
    });

    test("who asks gets them", () => {
      expect(
        scene()
          .send(info(opt.go, "d", 3))
          .at(-1),
      ).toBe("ack");
    });

    test("who asked with INFO need not ask again with GO", () => {
      expect(
        scene()
          .send(info(opt.info, "d", 3), info(opt.go, "d"))
          .at(-1),
      ).toBe("ack");
    });

    test("blocks of 512 bytes are what a client keeps to that did not ask with GO", () => {
      expect(scene(512).send(info(opt.info, "d")).at(-1)).toBe(required);
      expect(scene(512).send(info(opt.go, "d")).at(-1)).toBe("ack");
    });
  });
});

describe("STRUCTURED_REPLY and EXTENDED_HEADERS", () => {
  test("structured replies are acknowledged once", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.structuredReply))).toEqual(["ack"]);
    expect(scene.send(option(opt.structuredReply))).toEqual(["errInvalid structured reply already negotiated"]);
    scene.send(info(opt.go, "disk"));
    expect(scene.outcome).toMatchObject({ negotiated: { structured: true, extended: false } });
  });

  test.each([
    [opt.structuredReply, "structured reply"],
    [opt.extendedHeaders, "extended headers"],
  ])("option %i with a payload is refused and negotiates nothing", (number, name) => {
    const scene = new Scene();
    expect(scene.send(option(number, "q"))).toEqual([`errInvalid option '${name}' has unexpected length`]);
    scene.send(info(opt.go, "disk"));
    expect(scene.outcome).toMatchObject({ negotiated: { structured: false, extended: false } });
  });

  test("extended headers imply structured replies, and are acknowledged once", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.extendedHeaders))).toEqual(["ack"]);
    expect(scene.send(option(opt.extendedHeaders))).toEqual(["errInvalid extended headers already negotiated"]);
    expect(scene.send(info(opt.go, "disk")).at(-2)).toBe("info 000000000000001000000ded");
    expect(scene.outcome).toMatchObject({ negotiated: { structured: true, extended: true } });
  });

  test("structured replies after extended headers are refused, before them they are not", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.structuredReply), option(opt.extendedHeaders), option(opt.structuredReply))).toEqual([
      "ack",
      "ack",
      "errExtHeaderReqd extended headers already negotiated",
    ]);
  });

  test("BLOCK_STATUS_PAYLOAD needs extended headers and a selected context of that export", () => {
    const flags = (...options: readonly Buffer[]): string | undefined =>
      new Scene()
        .send(...options, info(opt.go, "disk"))
        .at(-2)
        ?.slice(-4);
    const select = metaContext(opt.setMetaContext, "disk", "base:allocation");
    expect(flags(option(opt.extendedHeaders))).toBe("0ded");
    expect(flags(option(opt.structuredReply), select)).toBe("0ded");
    expect(flags(option(opt.extendedHeaders), select)).toBe("1ded");
    expect(flags(option(opt.extendedHeaders), metaContext(opt.setMetaContext, "", "base:allocation"))).toBe("0ded");
    expect(flags(option(opt.extendedHeaders), metaContext(opt.setMetaContext, "disk", "x:y"))).toBe("0ded");
  });
});

describe("LIST_META_CONTEXT", () => {
  const all = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:daily", "qemu:dirty-bitmap:weekly"];
  const list = (...queries: readonly string[]): string[] =>
    new Scene().send(metaContext(opt.listMetaContext, "disk", ...queries));
  const named = (...names: readonly string[]): string[] => [...names.map((name) => `metaContext 0 ${name}`), "ack"];

  test("without queries tells everything, with ids of 0, also before structured replies", () => {
    expect(list()).toEqual(named(...all));
  });

  test.each([
    ["base:", all.slice(0, 1)],
    ["qemu:", all.slice(1)],
    ["qemu:dirty-bitmap:", all.slice(2)],
    ["qemu:dirty-bitmap:daily", all.slice(2, 3)],
    ["base:allocation", all.slice(0, 1)],
  ])("%s stands for its family", (query, names) => {
    expect(list(query)).toEqual(named(...names));
  });

  test.each([
    "base",
    "base:alloc",
    "qemu:dirty-bitmap",
    "qemu:dirty-bitmap:d",
    "nbd-server:",
    "",
    ":",
    "x",
    "q".repeat(5000),
  ])("%j, which stands for nothing, is acknowledged with nothing", (query) => {
    expect(list(query)).toEqual(["ack"]);
  });

  test("queries add up, in the order of the export and each once", () => {
    expect(list("qemu:dirty-bitmap:weekly", "base:", "base:allocation", "x:")).toEqual(named(all[0], all[3]));
  });

  test("a bitmap whose name ends in a colon is no family", () => {
    const contexts = ["qemu:dirty-bitmap:a:", "qemu:dirty-bitmap:a:b"];
    const scene = new Scene({ directory: new Directory(offerOf("d", { contexts })) });
    expect(scene.send(metaContext(opt.listMetaContext, "d", "qemu:dirty-bitmap:a:"))).toEqual(named(contexts[0]));
  });

  test.each([
    ["of an unknown export", metaContext(opt.listMetaContext, "nope"), "errUnknown export 'nope' not present"],
    [
      "that is cut off in its name",
      option(opt.listMetaContext, u32(9)),
      "errInvalid Inconsistent lengths in option list meta context",
    ],
    [
      "that is cut off in its queries",
      option(opt.listMetaContext, text("disk"), u32(2), text("base:")),
      "errInvalid Inconsistent lengths in option list meta context",
    ],
    [
      "with a query whose length is a lie",
      option(opt.listMetaContext, text("disk"), u32(1), u32(5000), "base:"),
      "errInvalid Inconsistent lengths in option list meta context",
    ],
    [
      "with a byte too many",
      option(opt.listMetaContext, text("disk"), u32(0), "t"),
      "errInvalid option 'list meta context' has unexpected length",
    ],
    [
      "with NUL in a query",
      metaContext(opt.listMetaContext, "disk", "base:allocation\0"),
      "errInvalid Unexpected embedded NUL in option list meta context",
    ],
    [
      "with a name of 4097 bytes",
      metaContext(opt.listMetaContext, "n".repeat(4097)),
      "errInvalid Invalid name length: 4097",
    ],
    [
      "with 4097 queries",
      option(opt.listMetaContext, text("disk"), u32(4097)),
      "errTooBig 4097 queries, of which 4096 are the most that can be",
    ],
  ])("%s is refused", (_, bytes, reply) => {
    const scene = new Scene();
    expect(scene.send(bytes)).toEqual([reply]);
    expect(scene.outcome.type).toBe("more");
  });
});

describe("SET_META_CONTEXT", () => {
  const structured = (): Scene => {
    const scene = new Scene();
    scene.send(option(opt.structuredReply));
    return scene;
  };
  const contextsAfter = (scene: Scene, name = "disk"): readonly string[] => {
    scene.send(info(opt.go, name));
    if (scene.outcome.type !== "transmission") throw new Error(`at ${scene.outcome.type}`);
    return scene.outcome.negotiated.contexts.map((context) => `${context.id} ${context.name}`);
  };
  const set = (...queries: readonly string[]): Buffer => metaContext(opt.setMetaContext, "disk", ...queries);

  test("needs structured replies", () => {
    expect(new Scene().send(set("base:allocation"))).toEqual([
      "errInvalid request option 'set meta context' when structured reply is not negotiated",
    ]);
  });

  test("is content with extended headers", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.extendedHeaders), set("base:allocation"))).toEqual([
      "ack",
      "metaContext 1 base:allocation",
      "ack",
    ]);
  });

  test("selects by full names, in the order of the export, with an id each", () => {
    const scene = structured();
    expect(scene.send(set("qemu:dirty-bitmap:weekly", "qemu:allocation-depth", "x:y"))).toEqual([
      "metaContext 2 qemu:allocation-depth",
      "metaContext 4 qemu:dirty-bitmap:weekly",
      "ack",
    ]);
    expect(contextsAfter(scene)).toEqual(["2 qemu:allocation-depth", "4 qemu:dirty-bitmap:weekly"]);
  });

  test.each([[[]], [["base:"]], [["qemu:", "qemu:dirty-bitmap:"]], [["nbd-server:x"]]])(
    "%j selects nothing, and that is no error",
    (queries) => {
      const scene = structured();
      expect(scene.send(set(...queries))).toEqual(["ack"]);
      expect(contextsAfter(scene)).toEqual([]);
    },
  );

  test("replaces what was selected before, and ids stay", () => {
    const scene = structured();
    scene.send(set("base:allocation", "qemu:dirty-bitmap:daily"));
    expect(scene.send(set("qemu:dirty-bitmap:daily"))).toEqual(["metaContext 3 qemu:dirty-bitmap:daily", "ack"]);
    expect(contextsAfter(scene)).toEqual(["3 qemu:dirty-bitmap:daily"]);
  });

  test.each([
    ["of an unknown export", metaContext(opt.setMetaContext, "nope", "base:allocation")],
    ["that is cut off", option(opt.setMetaContext, text("disk"), u32(2))],
    ["that is too long", option(opt.setMetaContext, Buffer.alloc(256 * 1024 + 1))],
    ["with too many queries", option(opt.setMetaContext, text("disk"), u32(0xffffffff))],
    ["with a byte too many", option(opt.setMetaContext, text("disk"), u32(0), "t")],
  ])("one that fails (%s) forgets what was selected before", (_, bytes) => {
    const scene = structured();
    scene.send(set("base:allocation"));
    expect(scene.send(bytes)[0]).toMatch(/^err/);
    expect(contextsAfter(scene)).toEqual([]);
  });

  test("a selection for one export is not one for another", () => {
    const scene = structured();
    scene.send(set("base:allocation"));
    expect(contextsAfter(scene, "")).toEqual([]);
  });

  test("LIST_META_CONTEXT leaves the selection alone", () => {
    const scene = structured();
    scene.send(set("base:allocation"), metaContext(opt.listMetaContext, "disk", "x:"));
    expect(contextsAfter(scene)).toEqual(["1 base:allocation"]);
  });

  test("an export that was replaced meanwhile by one without the selected bitmap is refused, not misreported", () => {
    const scene = structured();
    scene.send(set("qemu:dirty-bitmap:daily"));
    scene.directory.offers.set("disk", offerOf("disk"));
    expect(scene.send(info(opt.go, "disk")).at(-1)).toBe(
      "errInvalid export 'disk' has changed since its metadata contexts were selected",
    );
    expect(scene.send(set("base:allocation")).at(-1)).toBe("ack");
    expect(contextsAfter(scene)).toEqual(["1 base:allocation"]);
  });

  test("one that was replaced by an equal one is not", () => {
    const scene = structured();
    scene.send(set("qemu:dirty-bitmap:daily"));
    scene.directory.offers.set("disk", usualDirectory().find("disk")!);
    expect(contextsAfter(scene)).toEqual(["3 qemu:dirty-bitmap:daily"]);
  });
});

describe("unknown options", () => {
  test.each([0, 4, 12, 99, 0xffffffff])("%i is unsupported", (number) => {
    expect(new Scene().send(option(number, "whatever"))).toEqual([`errUnsup Unsupported option ${number} (<unknown>)`]);
  });
});

describe("without TLS", () => {
  test("STARTTLS is refused by policy", () => {
    expect(new Scene().send(option(opt.startTls))).toEqual(["errPolicy TLS not configured"]);
  });

  test("STARTTLS with a payload is refused, and the connection goes on", () => {
    const scene = new Scene();
    expect(scene.send(option(opt.startTls, "abc"))).toEqual(["errInvalid option 'starttls' has unexpected length"]);
    expect(scene.send(option(opt.structuredReply))).toEqual(["ack"]);
  });
});

describe("with TLS required", () => {
  const scene = (): Scene => new Scene({ tls: "required" });

  test.each([
    [opt.list, "0x3"],
    [opt.info, "0x6"],
    [opt.go, "0x7"],
    [opt.structuredReply, "0x8"],
    [opt.listMetaContext, "0x9"],
    [opt.setMetaContext, "0xa"],
    [opt.extendedHeaders, "0xb"],
    [99, "0x63"],
  ])("option %i gets ERR_TLS_REQD before STARTTLS, with and without payload", (number, told) => {
    const clear = scene();
    expect(clear.send(option(number), option(number, "payload"))).toEqual([
      `errTlsReqd Option ${told} not permitted before TLS`,
      `errTlsReqd Option ${told} not permitted before TLS`,
    ]);
    expect(clear.outcome.type).toBe("more");
  });

  test("ABORT is acknowledged before STARTTLS, as the protocol's text wants", () => {
    const clear = scene();
    expect(clear.send(option(opt.abort))).toEqual(["ack"]);
    expect(clear.outcome).toMatchObject({ code: "ERR_NBD_ABORTED" });
  });

  test("EXPORT_NAME before STARTTLS closes the connection without a reply", () => {
    const clear = scene();
    expect(clear.sendRaw(exportName("disk"))).toHaveLength(0);
    expect(clear.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_REFUSED" });
  });

  test("EXPORT_NAME of a client without fixed newstyle too", () => {
    const clear = new Scene({ tls: "required", flags: 0 });
    expect(clear.sendRaw(exportName("disk"))).toHaveLength(0);
    expect(clear.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_REFUSED" });
  });

  test("STARTTLS is acknowledged and TLS starts", () => {
    const clear = scene();
    expect(clear.send(option(opt.startTls))).toEqual(["ack"]);
    expect(clear.outcome).toEqual({ type: "startTls" });
    expect(() => clear.handshake.receive(new Uint8Array(1))).toThrow("invariant");
  });

  test("STARTTLS with a payload is refused, and the connection closed", () => {
    const clear = scene();
    expect(clear.send(option(opt.startTls, "abc"))).toEqual(["errInvalid option 'starttls' has unexpected length"]);
    expect(clear.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_PROTOCOL" });
  });

  test.each([1, 20])("%i bytes in the clear behind STARTTLS close the connection without a reply", (count) => {
    const clear = scene();
    expect(clear.sendRaw(option(opt.startTls), option(opt.list, "....").subarray(0, count))).toHaveLength(0);
    expect(clear.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_PROTOCOL" });
  });

  test("through TLS options are answered and transmission begins", () => {
    const secure = scene();
    secure.send(option(opt.startTls));
    secure.handshake.tlsStarted();
    expect(secure.send(option(opt.startTls))).toEqual(["errInvalid TLS already enabled"]);
    expect(secure.send(option(opt.list))).toHaveLength(3);
    expect(secure.sendRaw(exportName("disk")).toString("hex")).toBe("00000000001000000d6d");
    expect(secure.outcome.type).toBe("transmission");
  });

  test("STARTTLS with a payload through TLS is refused, and the connection goes on", () => {
    const secure = scene();
    secure.send(option(opt.startTls));
    secure.handshake.tlsStarted();
    expect(secure.send(option(opt.startTls, "x"))).toEqual(["errInvalid option 'starttls' has unexpected length"]);
    expect(secure.outcome.type).toBe("more");
  });

  test("nothing of what is tried in the clear counts through TLS", () => {
    const secure = scene();
    secure.send(option(opt.structuredReply), option(opt.extendedHeaders), option(opt.startTls));
    secure.handshake.tlsStarted();
    expect(secure.send(info(opt.go, "disk")).at(-2)).toBe("info 000000000000001000000d6d");
    expect(secure.outcome).toMatchObject({ negotiated: { structured: false, extended: false, contexts: [] } });
  });
});

describe("a server that is shutting down", () => {
  const stopping = (tls: "off" | "required" = "off"): Scene => {
    const scene = new Scene({ tls });
    scene.handshake.stop();
    return scene;
  };

  test.each([opt.list, opt.info, opt.go, opt.structuredReply, opt.setMetaContext, opt.startTls, 99])(
    "answers option %i with ERR_SHUTDOWN",
    (number) => {
      expect(stopping().send(option(number, "xyz"))).toEqual(["errShutdown The server is shutting down"]);
    },
  );

  test("starts no TLS", () => {
    expect(stopping("required").send(option(opt.startTls))).toEqual(["errShutdown The server is shutting down"]);
  });

  test("acknowledges ABORT", () => {
    expect(stopping().send(option(opt.abort))).toEqual(["ack"]);
  });

  test("closes at EXPORT_NAME", () => {
    const scene = stopping();
    expect(scene.sendRaw(exportName("disk"))).toHaveLength(0);
    expect(scene.outcome).toMatchObject({ type: "closed", code: "ERR_NBD_REFUSED" });
  });
});

test("one byte at a time is a handshake like any other", () => {
  const handshake = new ServerHandshake(usualDirectory(), "off");
  const bytes = Buffer.concat([clientFlags(), option(opt.structuredReply), info(opt.go, "disk")]);
  let outcome = "more";
  for (const byte of bytes) outcome = pour(handshake, Uint8Array.of(byte)).outcome.type;
  expect(outcome).toBe("transmission");
});
