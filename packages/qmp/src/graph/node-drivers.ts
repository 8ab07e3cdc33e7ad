/**
 * QEMU's drivers as ours: for each, what stands inside it, and the specification that the runtime attaches.
 *
 * A node that stands on another is a window of that one's disk, so that both share a gate and what is written through either
 * is tracked in both. (QEMU tracks only what is addressed to the node itself: a bitmap of ours may say more, never less.)
 */
import { lstatSync, statSync } from "node:fs";
import { resolve } from "node:path";
import type { NodeSpec } from "@heirloom/block";
import { formatNbdUri, nbdNode } from "@heirloom/nbd";
import { clientTls } from "../commands/tls-credentials.ts";
import type { ObjectStore } from "../commands/object-store.ts";
import type { Disk } from "@heirloom/runtime";
import type { BlockdevOptions, BlockdevRef } from "../generated/qmp-types.ts";
import { QmpError } from "../qmp-error.ts";
import { blkdebugSpec } from "./blkdebug-rules.ts";
import type { GraphNode } from "./graph-node.ts";
import { pointInTimeOf } from "./points-in-time.ts";
import type { ThrottleGroups } from "./throttle-groups.ts";

type OptionsOf<Driver extends BlockdevOptions["driver"]> = Extract<BlockdevOptions, { driver: Driver }>;

/** What a driver makes of its options. */
export interface NodePlan {
  /** What it stands on, under the name of the option. */
  readonly child: BlockdevRef | undefined;
  /** QEMU opens what is called `file` before it looks at the node's name, and other children after. */
  readonly childFirst: boolean;
  /** What it uses beside that; opened after the name was looked at. */
  readonly second?: BlockdevRef;
  /** @param child the disk that it stands on @param node the same as a node */
  readonly spec: (child: Disk | undefined, node: GraphNode | undefined) => NodeSpec;
  readonly filename: string;
  readonly file: string | undefined;
  /** Id of an object that must stay for as long as the node does. */
  readonly uses?: string;
}

const gibibyte = 2 ** 30;

/** @throws QmpError for what can be told before anything is opened */
export function planNode(options: BlockdevOptions, groups: ThrottleGroups, objects: ObjectStore): NodePlan {
  switch (options.driver) {
    case "file":
    case "host_device":
      return planFile(options);
    case "null-co":
    case "null-aio":
      return planNull(options);
    case "raw":
      return planRaw(options);
    case "throttle":
      return window(options.file, true, (file) => ({
        driver: "throttle",
        file,
        group: groups.memory(options["throttle-group"]),
      }));
    case "blkdebug": {
      const spec = blkdebugSpec(options);
      return window(options.image, false, (file) => ({ ...spec, file }));
    }
    case "nbd":
      return planNbd(options, objects);
    case "copy-before-write":
      return {
        ...window(options.file, true, (file) => ({ driver: "raw", file, readOnly: options["read-only"] ?? false })),
        second: options.target,
      };
    case "snapshot-access":
      return planSnapshot(options);
    case "qcow2":
      throw new QmpError("The 'qcow2' driver is not there yet: only raw images can be opened");
  }
}

function window(child: BlockdevRef, childFirst: boolean, spec: (file: Disk) => NodeSpec): NodePlan {
  return { child, childFirst, spec: (file) => spec(file as Disk), filename: "", file: undefined };
}

function planSnapshot(options: OptionsOf<"snapshot-access">): NodePlan {
  const { discard = "ignore", "read-only": readOnly = false } = options;
  return {
    ...window(options.file, true, () => {
      throw new QmpError("a snapshot-access node stands on a node");
    }),
    spec: (_disk, node) => {
      const from = node && pointInTimeOf(node);
      if (from !== undefined) return { driver: "snapshot", ...from, discard, readOnly };
      throw new QmpError(
        `snapshot-access: node '${node?.name ?? ""}' keeps no point in time; expected a copy-before-write node`,
      );
    },
  };
}

function planRaw(options: OptionsOf<"raw">): NodePlan {
  const { offset, size } = options;
  for (const [name, value] of [
    ["offset", offset],
    ["size", size],
  ] as const) {
    if (value !== undefined && value < 0) throw new QmpError(`Parameter '${name}' expects a non-negative value`);
  }
  return window(options.file, true, (file) => ({
    driver: "raw",
    file,
    readOnly: options["read-only"] ?? false,
    ...(offset === undefined ? {} : { offset }),
    ...(size === undefined ? {} : { size }),
  }));
}

function planNull(options: OptionsOf<"null-co" | "null-aio">): NodePlan {
  const { size = gibibyte, "latency-ns": latencyNs = 0, "read-zeroes": readZeroes = false } = options;
  if (latencyNs >= 2 ** 63) throw new QmpError("latency-ns is invalid");
  if (size < 0) throw new QmpError("Parameter 'size' expects a non-negative value");
  const readOnly = options["read-only"] ?? false;
  return {
    child: undefined,
    childFirst: false,
    spec: () => ({ driver: "null-co", size, latencyNs, readZeroes, readOnly }),
    filename: `${options.driver}://`,
    file: undefined,
  };
}

function planFile(options: OptionsOf<"file" | "host_device">): NodePlan {
  const { driver, filename, discard = "ignore" } = options;
  if (filename === "") throw new QmpError(`The '${driver}' block driver requires a file name`);
  if (options["pr-manager"] !== undefined) throw new QmpError("pr-manager is not supported");
  const readOnly = options["read-only"] ?? false;
  if (options["force-share"] === true && !readOnly) {
    throw new QmpError("force-share=on can only be used with read-only images");
  }
  return {
    child: undefined,
    childFirst: false,
    spec: () => {
      refuseKind(driver, filename);
      // `image-locks.ts` locks it for as long as it is used.
      return { driver, filename, readOnly, discard, locking: "off" };
    },
    filename,
    file: filename,
  };
}

const secondMs = 1000;

function planNbd(options: OptionsOf<"nbd">, objects: ObjectStore): NodePlan {
  const { server, export: name = "", "reconnect-delay": reconnectDelay = 0, "open-timeout": openTimeout = 0 } = options;
  if (options["x-dirty-bitmap"] !== undefined) throw new QmpError("nbd: x-dirty-bitmap is not supported");
  if (server.type !== "unix" && server.type !== "inet") {
    throw new QmpError(`nbd: sockets of type '${server.type}' are not supported`);
  }
  const address =
    server.type === "unix"
      ? ({ transport: "unix", path: resolve(server.path) } as const)
      : ({ transport: "tcp", host: server.host, port: portOf(server.port) } as const);
  const creds = options["tls-creds"];
  const tls =
    creds === undefined ? undefined : clientTls(objects.credentials(creds, "client"), options["tls-hostname"]);
  const uri = formatNbdUri({ address, exportName: name, ...(tls === undefined ? {} : { tls }) });
  return {
    child: undefined,
    childFirst: false,
    spec: () =>
      nbdNode({
        uri,
        // Without the word the node is writable if the server has it so.
        ...(options["read-only"] === undefined ? {} : { readOnly: options["read-only"] }),
        reconnectDelayMs: reconnectDelay * secondMs,
        ...(openTimeout === 0 ? {} : { openTimeoutMs: openTimeout * secondMs }),
      }),
    filename: formatNbdUri({ address, exportName: name }),
    file: undefined,
    ...(creds === undefined ? {} : { uses: creds }),
  };
}

function portOf(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65535) return port;
  throw new QmpError(`address resolution failed for port '${text}': Servname not supported for ai_socktype`);
}

/** What is not there, opening says. */
function refuseKind(driver: "file" | "host_device", filename: string): void {
  if (lstatSync(filename, { throwIfNoEntry: false }) === undefined) return;
  const status = statSync(filename, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (status.isDirectory()) throw new QmpError(`Could not open '${filename}': Is a directory`);
  if (driver === "file" && !status.isFile()) {
    throw new QmpError(`'file' driver requires '${filename}' to be a regular file`);
  }
  if (driver === "host_device" && !status.isBlockDevice()) {
    throw new QmpError(`'host_device' driver requires '${filename}' to be either a character or block device`);
  }
}
