/** The NBD server and what it exports. */
import {
  bool,
  command,
  type CommandTable,
  enumeration,
  type Enum,
  list,
  optional,
  required,
  str,
  struct,
  type Struct,
  uint32,
  type Union,
} from "../schema/type.ts";
import { bitmapOrName } from "./bitmaps.ts";
import { socketAddress, socketAddressLegacy } from "./socket-types.ts";

const removeMode: Enum = enumeration("BlockExportRemoveMode", ["safe", "hard"], "what becomes of connections");
const exportType: Enum = enumeration("BlockExportType", ["nbd"], "kinds of exports");

const nbdExport: Struct = struct("BlockExportOptionsNbd", "an NBD export", {
  name: optional(str, "its name (default: that of the node)"),
  description: optional(str, "text for people"),
  bitmaps: optional(list(bitmapOrName), "bitmaps that clients can read as metadata contexts"),
  "allocation-depth": optional(bool, "offers the context qemu:allocation-depth (default false)"),
});

export const exportOptions: Union = {
  kind: "union",
  name: "BlockExportOptions",
  doc: "an export",
  members: {
    type: required(exportType, "nbd"),
    id: required(str, "its id"),
    "fixed-iothread": optional(bool, "taken, without effect"),
    iothread: optional(str, "id of an iothread; taken, without effect"),
    "node-name": required(str, "the node"),
    writable: optional(bool, "clients may write (default false)"),
    writethrough: optional(bool, "each write is flushed (default false)"),
  },
  tag: "type",
  variants: { nbd: () => nbdExport },
};

const serverMembers = {
  "tls-creds": optional(str, "id of the credentials: TLS is required then"),
  "tls-authz": optional(str, "refused"),
  "max-connections": optional(uint32, "clients at once; 0: no limit (default 100)"),
  "handshake-max-seconds": optional(
    uint32,
    "a client that has not chosen an export by then is dropped; 0: no limit (default 10)",
  ),
};

/** As the command line has it. */
export const nbdServerOptions: Struct = struct("NbdServerOptions", "where the NBD server listens", {
  addr: required(socketAddress, "the address"),
  ...serverMembers,
});

const exportInfo: Struct = struct("BlockExportInfo", "an export", {
  id: required(str, "its id"),
  type: required(exportType, "nbd"),
  "node-name": required(str, "the node"),
  "shutting-down": required(bool, "it is being taken away"),
});

export const exportCommands: CommandTable = {
  "nbd-server-start": command({
    doc: "Starts the NBD server, without exports.",
    arguments: { addr: required(socketAddressLegacy, "where it listens"), ...serverMembers },
  }),
  "nbd-server-stop": command({ doc: "Takes the exports away, closes connections and stops listening." }),
  "nbd-server-add": command({
    doc: "As block-export-add, with the export's name as its id. Of a read-only node the export is read-only.",
    arguments: {
      name: optional(str, "name and id (default: that of the node)"),
      description: optional(str, "text for people"),
      device: required(str, "the node"),
      writable: optional(bool, "clients may write (default false)"),
      bitmap: optional(str, "a bitmap that clients can read"),
    },
    features: ["deprecated"],
  }),
  "nbd-server-remove": command({
    doc: "As block-export-del.",
    arguments: {
      name: required(str, "name of the export"),
      mode: optional(removeMode, "safe (default): refused while clients are connected"),
    },
    features: ["deprecated"],
  }),
  "block-export-add": command({ doc: "Exports a node.", arguments: exportOptions }),
  "block-export-del": command({
    doc: "Takes an export away; BLOCK_EXPORT_DELETED says when it is gone.",
    arguments: {
      id: required(str, "its id"),
      mode: optional(removeMode, "safe (default): refused while clients are connected; hard: they are dropped"),
    },
  }),
  "query-block-exports": command({ doc: "All exports, newest first.", result: list(exportInfo) }),
};
