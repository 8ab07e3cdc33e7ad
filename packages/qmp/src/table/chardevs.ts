/** Character devices: what monitors speak through. */
import {
  bool,
  command,
  type CommandTable,
  enumeration,
  int,
  list,
  type Members,
  optional,
  required,
  str,
  struct,
  type Struct,
  type Union,
} from "../schema/type.ts";
import { socketAddressLegacy } from "./socket-types.ts";

const common: Members = {
  logfile: optional(str, "refused"),
  logappend: optional(bool, "refused"),
};
const socket: Struct = struct("ChardevSocket", "a socket", {
  ...common,
  addr: required(socketAddressLegacy, "the address"),
  "tls-creds": optional(str, "refused"),
  "tls-authz": optional(str, "refused"),
  server: optional(bool, "it listens (default true); connecting is refused"),
  wait: optional(bool, "wait for a client before going on (default false); refused when true"),
  nodelay: optional(bool, "taken, without effect"),
  telnet: optional(bool, "refused when true"),
  tn3270: optional(bool, "refused when true"),
  websocket: optional(bool, "refused when true"),
  reconnect: optional(int, "refused"),
});
const stdio: Struct = struct("ChardevStdio", "standard input and output", {
  ...common,
  signal: optional(bool, "taken, without effect"),
});
const nullChardev: Struct = struct("ChardevCommon", "nothing", common);

const wrap = (of: Struct): (() => Struct) => {
  const wrapped = struct(`${of.name}Wrapper`, of.doc, { data: required(of, "options") });
  return () => wrapped;
};

const backend: Union = {
  kind: "union",
  name: "ChardevBackend",
  doc: "what a character device is",
  members: {
    type: required(
      enumeration("ChardevBackendKind", ["socket", "null", "stdio"], "kinds of character devices"),
      "what it is",
    ),
  },
  tag: "type",
  variants: { socket: wrap(socket), null: wrap(nullChardev), stdio: wrap(stdio) },
};

const chardevInfo: Struct = struct("ChardevInfo", "a character device", {
  label: required(str, "its id"),
  filename: required(str, "where it is"),
  "frontend-open": required(bool, "a monitor has it"),
});

export const chardevCommands: CommandTable = {
  "query-chardev": command({ doc: "All character devices.", result: list(chardevInfo) }),
  "chardev-add": command({
    doc: "Adds a character device.",
    arguments: { id: required(str, "its id"), backend: required(backend, "what it is") },
    result: struct("ChardevReturn", "nothing", { pty: optional(str, "never there") }),
  }),
  "chardev-remove": command({
    doc: "Takes a character device away that no monitor has.",
    arguments: { id: required(str, "its id") },
  }),
};
