/** The command line of `heirloom serve`. What does the work is loaded when it is to be done: help and completion are quick. */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { UsageError } from "../command-error.ts";
import { type MetricsAddress, parseMetricsAddress } from "../../metrics/metrics-server.ts";
import { parseBytes } from "../sizes.ts";
import { type BitmapArgument, parseBitmap } from "./bitmap-argument.ts";
import { parseListen, type TcpAddress } from "./listen-argument.ts";
import type { TlsFlags } from "./tls-credentials.ts";

export interface ServeFlags extends TlsFlags {
  readonly socket?: readonly string[];
  readonly listen?: readonly TcpAddress[];
  readonly name?: string;
  readonly bitmap?: readonly BitmapArgument[];
  readonly journal?: string;
  readonly journalBound?: number;
  readonly journalAllowTmpfs?: boolean;
  readonly readOnly?: boolean;
  readonly format?: "raw";
  readonly maxConnections?: number;
  readonly control?: string;
  readonly metrics?: MetricsAddress;
  readonly pidFile?: string;
  readonly stopTimeout?: number;
  readonly hints?: boolean;
  readonly json?: boolean;
}

export const STOP_TIMEOUT_SECONDS = 15;

export const serveCommand: Command<CommandContext> = buildCommand<ServeFlags, string[]>({
  docs: {
    brief: "Put disks on a socket: an NBD server with dirty bitmaps",
    fullDescription: `Puts each IMAGE, a raw disk in a file or a block device, on a socket as an NBD export that any
hypervisor can use as a disk, until a signal stops it. The first signal is a clean stop: clients are
answered what is in flight, and the disks are flushed. A second one cuts clients off.

An export is named as its file is, or as IMAGE=NAME or --name says; an empty NAME is the default export.
IMAGE may also be json:{"driver":...}, a node as Heirloom has them (memory, null-co, throttle, a module).

Without --socket and --listen, it listens on $XDG_RUNTIME_DIR/heirloom/IMAGE.sock, or for root on
/run/heirloom/IMAGE.sock. A socket that nobody listens on is replaced, a live one is refused. --listen
without a port takes 10809, NBD's own.

A bitmap says what clients have changed since the command began, by the granule (64 KiB, or
granularity=SIZE). Programs read it as the NBD metadata context qemu:dirty-bitmap:NAME.

With --control it is driven over QMP: by 'heirloom bitmap', 'heirloom backup', 'heirloom jobs' and
'heirloom explain', and by whatever drives qemu-storage-daemon. A bitmap that NBD clients see is busy as
long as they can see it, so with --control they see only those with export=on.

With --journal bitmaps outlive the command, kill -9 and power losses: they are kept in IMAGE.heirloom (beside),
or in a directory of your choice, and the next command goes on with them. One that cannot be believed any
more is told of and not exported; --bitmap NAME,fresh begins it anew. 'heirloom info IMAGE' shows them.

With --tls-creds or --tls-psk every client has to speak TLS; files are laid out as QEMU's tools have them.

Examples:
  heirloom serve vm.raw
  heirloom serve vm.raw --socket /run/vm.sock --bitmap daily
  heirloom serve vm.raw --socket /run/vm.sock --bitmap daily --journal beside
  heirloom serve /dev/vg0/vm1=vm1 /dev/vg0/vm2=vm2 --listen 127.0.0.1 --bitmap daily,granularity=128k
  heirloom serve vm.raw --socket /run/vm.sock --control /run/vm.control --bitmap daily
  heirloom serve golden.raw --read-only --listen '*' --tls-creds /etc/pki/heirloom

Exit status: 0 after a clean stop, 1 after a failure or an unclean stop, 2 where the command line makes no sense.`,
    customUsage: [
      "IMAGE[=NAME]... [--socket PATH]... [--listen HOST:PORT]... [--bitmap NAME]... [--control PATH] [options]",
    ],
  },
  parameters: {
    positional: {
      kind: "array",
      minimum: 1,
      parameter: {
        brief: "Raw disk: a file or a block device, and the export's name",
        placeholder: "IMAGE",
        parse: String,
      },
    },
    flags: {
      socket: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        brief: "Listen on this Unix socket (mode 0600)",
        placeholder: "PATH",
      },
      listen: {
        kind: "parsed",
        parse: parseListen,
        variadic: true,
        optional: true,
        brief: "Listen on TCP; '*' is every interface, port 0 any that is free",
        placeholder: "HOST:PORT",
      },
      name: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "Name of the export, where there is one IMAGE",
        placeholder: "NAME",
      },
      bitmap: {
        kind: "parsed",
        parse: parseBitmap,
        variadic: true,
        optional: true,
        brief: "Record what is written in a dirty bitmap, of each image",
        placeholder: "NAME",
      },
      journal: {
        kind: "parsed",
        parse: parsePlace,
        optional: true,
        brief: "Keep the bitmaps: 'beside' each image, or in a directory",
        placeholder: "PLACE",
      },
      journalBound: {
        kind: "parsed",
        parse: parseBound,
        optional: true,
        brief: "What a power loss may make dirty in excess (default 4G)",
        placeholder: "SIZE",
      },
      journalAllowTmpfs: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "Keep them where a power loss takes them, too",
      },
      readOnly: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "Refuse writes; opens the image for reading",
      },
      format: {
        kind: "enum",
        values: ["raw"],
        optional: true,
        brief: "Serve the bytes as they are, whatever they look like",
      },
      tlsCreds: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "Want TLS: ca-cert.pem, server-cert.pem, server-key.pem",
        placeholder: "DIR",
      },
      tlsPsk: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "Want TLS with secrets: lines USER:HEXKEY, as of psktool",
        placeholder: "FILE",
      },
      tlsClients: {
        kind: "enum",
        values: ["required", "optional", "none"],
        optional: true,
        brief: "Clients' certificates (default required)",
      },
      tlsAllow: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        brief: "Let in only clients of this name",
        placeholder: "NAME",
      },
      maxConnections: {
        kind: "parsed",
        parse: parseConnections,
        optional: true,
        brief: "Connections at once; others wait (default 100)",
        placeholder: "N",
      },
      control: {
        kind: "parsed",
        parse: parseControl,
        optional: true,
        brief: "Be driven over QMP on this Unix socket (mode 0600)",
        placeholder: "PATH",
      },
      metrics: {
        kind: "parsed",
        parse: parseMetrics,
        optional: true,
        brief: "Prometheus metrics: a path, or a loopback HOST:PORT",
        placeholder: "WHERE",
      },
      pidFile: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "Write the process's number there when clients can come",
        placeholder: "PATH",
      },
      stopTimeout: {
        kind: "parsed",
        parse: parseSeconds,
        optional: true,
        brief: `What a clean stop may take at most (default ${STOP_TIMEOUT_SECONDS})`,
        placeholder: "SECONDS",
      },
      hints: { kind: "boolean", optional: true, brief: "Print how to use it; by default on a terminal" },
      json: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "Tell what happens as JSON, an object a line",
      },
    },
    aliases: { s: "socket", l: "listen", n: "name", b: "bitmap", r: "readOnly", f: "format" },
  },
  loader: async () => (await import("./run-serve.ts")).runServe,
});

function parseMetrics(text: string): MetricsAddress {
  try {
    return parseMetricsAddress(text);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function parseControl(text: string): string {
  if (text === "") throw new UsageError("expected the path of a socket, and it is empty");
  return text;
}

function parsePlace(text: string): string {
  if (text !== "") return text;
  throw new UsageError("expected 'beside' or a directory, and it is empty");
}

/** Regions of 1 MiB at least, 64 of them. */
const BOUND_MIN = 64 * 2 ** 20;

function parseBound(text: string): number {
  const bytes = parseBytes(text);
  if (bytes !== undefined && bytes >= BOUND_MIN) return bytes;
  throw new UsageError(`the bound '${text}' is none; expected 64M or more, as in 4G`);
}

function parseConnections(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= 100_000) return count;
  throw new UsageError(`'${text}' is no number of connections; expected 1 to 100000`);
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && seconds > 0 && seconds <= 86_400) return seconds;
  throw new UsageError(`'${text}' is no time; expected seconds, as in 15`);
}
