/** Where something listens or connects. Two shapes: flat, and the legacy one with a `data` level. */
import { bool, enumeration, optional, required, str, struct, type Struct, uint32, type Union } from "../schema/type.ts";
import type { Enum } from "../schema/type.ts";

const kinds: Enum = enumeration("SocketAddressType", ["inet", "unix", "vsock", "fd"], "kind of socket");

const inet: Struct = struct("InetSocketAddress", "TCP", {
  host: required(str, "name or address"),
  port: required(str, "number, as text"),
  numeric: optional(bool, "no names are looked up"),
  to: optional(uint32, "the first free port from `port` to this one is taken"),
  ipv4: optional(bool, "use IPv4"),
  ipv6: optional(bool, "use IPv6"),
  "keep-alive": optional(bool, "on outgoing connections"),
  mptcp: optional(bool, "multipath TCP; refused"),
});
const unix: Struct = struct("UnixSocketAddress", "Unix socket", {
  path: required(str, "path of the socket"),
  abstract: optional(bool, "in Linux's abstract namespace"),
  tight: optional(bool, "an abstract name is as long as its text (default)"),
});
const vsock: Struct = struct("VsockSocketAddress", "vsock; refused", {
  cid: required(str, "unique host identifier"),
  port: required(str, "port"),
});
const fd: Struct = struct("FdSocketAddress", "a descriptor; refused", { str: required(str, "its number or name") });

export const socketAddress: Union = {
  kind: "union",
  name: "SocketAddress",
  doc: "address of a socket",
  members: { type: required(kinds, "kind of socket") },
  tag: "type",
  variants: { inet: () => inet, unix: () => unix, vsock: () => vsock, fd: () => fd },
};

const wrapped = (of: Struct): (() => Struct) => {
  const wrapper = struct(`${of.name}Wrapper`, of.doc, { data: required(of, "the address") });
  return () => wrapper;
};

/** As `nbd-server-start` and `chardev-add` have it. */
export const socketAddressLegacy: Union = {
  kind: "union",
  name: "SocketAddressLegacy",
  doc: "address of a socket, with a level more",
  members: { type: required(kinds, "kind of socket") },
  tag: "type",
  variants: { inet: wrapped(inet), unix: wrapped(unix), vsock: wrapped(vsock), fd: wrapped(fd) },
};
