/** The servers that the suites run against: peers, which show that a suite asks for what is right, and ours. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createRuntime } from "@heirloom/runtime";
import { QemuStorageDaemon } from "../bench/peers/qemu-storage-daemon.mjs";

const command = fileURLToPath(new URL("../../packages/cli/dist/heirloom/main.js", import.meta.url));

export interface ExportedImage {
  readonly name: string;
  /** A raw file. */
  readonly file: string;
  readonly readOnly?: boolean;
  /** Of a bitmap of 64 KiB granules that records from now on. */
  readonly bitmap?: string;
}

export interface Serving {
  uri(name: string): string;
  close(): Promise<void>;
}

export interface Server {
  readonly name: string;
  /** The programs that it is. */
  readonly tools: readonly string[];
  /** Several exports at once, each by its name. */
  readonly manyExports: boolean;
  readonly bitmaps: boolean;
  /** Says what clients need not write: holes of the file are holes of the export. */
  readonly fastZero: boolean;
  start(scratch: string, images: readonly ExportedImage[]): Promise<Serving>;
}

const nbdkit: Server = {
  name: "nbdkit's file plugin",
  tools: ["nbdkit"],
  manyExports: false,
  bitmaps: false,
  fastZero: false,
  async start(scratch, images) {
    const [{ file, readOnly }] = images as [ExportedImage];
    const socket = join(scratch, "nbdkit.sock");
    const options = ["--foreground", "--unix", socket, ...(readOnly === true ? ["--readonly"] : [])];
    return program("nbdkit", [...options, "--pidfile", `${socket}.pid`, "file", file], socket);
  },
};

const qemuNbd: Server = {
  name: "qemu-nbd",
  tools: ["qemu-nbd"],
  manyExports: false,
  bitmaps: false,
  fastZero: true,
  async start(scratch, images) {
    const [{ name, file, readOnly }] = images as [ExportedImage];
    const socket = join(scratch, "qemu-nbd.sock");
    const options = [
      "--format=raw",
      "--discard=unmap",
      "--persistent",
      "--shared=0",
      `--export-name=${name}`,
      `--pid-file=${socket}.pid`,
    ];
    return program("qemu-nbd", [...options, ...(readOnly === true ? ["--read-only"] : []), "-k", socket, file], socket);
  },
};

const qemuStorageDaemon: Server = {
  name: "qemu-storage-daemon",
  tools: ["qemu-storage-daemon"],
  manyExports: true,
  bitmaps: true,
  fastZero: true,
  async start(scratch, images) {
    const daemon = await QemuStorageDaemon.start({ path: (name) => join(scratch, name) });
    for (const { name, file, readOnly, bitmap } of images) {
      await daemon.addFile(name, file, { discard: "unmap" });
      if (bitmap !== undefined) await daemon.execute("block-dirty-bitmap-add", { node: name, name: bitmap });
      await daemon.export(name, {
        writable: readOnly !== true,
        ...(bitmap === undefined ? {} : { bitmaps: [bitmap] }),
      });
    }
    return {
      uri: (name) => `nbd+unix:///${name}?socket=${daemon.nbdSocket}`,
      close: () => daemon.stop(),
    };
  },
};

const heirloom: Server = {
  name: "heirloom",
  tools: [],
  manyExports: true,
  bitmaps: true,
  fastZero: true,
  async start(scratch, images) {
    const runtime = createRuntime();
    const uris = new Map<string, string>();
    try {
      const server = await runtime.serveNbd({ listen: [{ path: join(scratch, "heirloom.sock") }] });
      for (const { name, file, readOnly, bitmap } of images) {
        const disk = await runtime.attach({ driver: "file", filename: file }, { name });
        if (bitmap !== undefined) await disk.bitmaps.add(bitmap, { granularity: 65536 });
        const exported = await server.add({
          disk,
          name,
          writable: readOnly !== true,
          ...(bitmap === undefined ? {} : { bitmaps: [bitmap] }),
        });
        uris.set(name, exported.uris[0]);
      }
      const [first] = server.addresses;
      return {
        uri: (name) => uris.get(name) ?? `nbd+unix:///${name}?socket=${"path" in first ? first.path : ""}`,
        close: () => runtime.close(),
      };
    } catch (error) {
      await runtime.close();
      throw error;
    }
  },
};

const heirloomServe: Server = {
  name: "heirloom serve",
  tools: [],
  manyExports: true,
  bitmaps: true,
  fastZero: true,
  async start(scratch, images) {
    const socket = join(scratch, "serve.sock");
    const [{ readOnly, bitmap }] = images as [ExportedImage];
    const options = [
      ...(readOnly === true ? ["--read-only"] : []),
      ...(bitmap === undefined ? [] : ["--bitmap", bitmap]),
    ];
    const exports = images.map(({ file, name }) => `${file}=${name}`);
    const args = ["serve", ...exports, "--socket", socket, "--pid-file", `${socket}.pid`, ...options];
    return program(process.execPath, [command, ...args], socket);
  },
};

export const servers: readonly Server[] = [nbdkit, qemuNbd, qemuStorageDaemon, heirloom];

/** The command's server is the runtime's: what is asked of it is that it puts the right things there. */
export const serversAndCommand: readonly Server[] = [...servers, heirloomServe];

/** Until it takes connections, which is when it writes its process number to a file; until its end at `close`. */
async function program(tool: string, args: readonly string[], socket: string): Promise<Serving> {
  const child = spawn(tool, args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const ended = once(child, "close");
  while (!existsSync(`${socket}.pid`)) {
    if (child.exitCode !== null) throw new Error(`${tool} has ended: ${errors}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return {
    uri: (name) => `nbd+unix:///${name}?socket=${socket}`,
    async close() {
      if ((child.exitCode ?? child.signalCode) !== null)
        throw new Error(`${tool} has ended before (${child.exitCode ?? child.signalCode}): ${errors}`);
      child.kill("SIGTERM");
      await ended;
    },
  };
}
