/** Character devices as the command line describes them (`socket,id=m,path=...`) and as `chardev-add` does. */
import { isIdentifier, QmpError, type QmpCommands } from "@heirloom/qmp";
import { readKeyval } from "../keyval/keyval.ts";
import type { ChardevOptions } from "./chardevs.ts";

type Backend = QmpCommands["chardev-add"]["arguments"]["backend"];

const known: ReadonlySet<string> = new Set([
  ...["backend", "id", "path", "host", "port", "server", "wait", "to", "ipv4", "ipv6", "nodelay", "signal", "abstract"],
  ...["tight", "telnet", "tn3270", "websocket", "reconnect", "tls-creds", "tls-authz", "logfile", "logappend", "mux"],
]);
const backends: ReadonlySet<string> = new Set(["socket", "stdio", "null"]);

/** @throws QmpError */
export function readChardev(text: string): { readonly id: string; readonly options: ChardevOptions } {
  const given = readKeyval(withoutShortForms(text.startsWith("{") ? "" : text), "backend") as ReadonlyMap<
    string,
    string
  >;
  const unknown = [...given.keys()].find((name) => !known.has(name));
  if (unknown !== undefined) throw new QmpError(`Invalid parameter '${unknown}'`);
  const id = given.get("id");
  const backend = given.get("backend");
  if (id === undefined) throw new QmpError("chardev: no id specified");
  if (!isIdentifier(id)) throw new QmpError("Parameter 'id' expects an identifier");
  if (backend === undefined) throw new QmpError(`chardev: "${id}" missing backend`);
  if (!backends.has(backend)) throw new QmpError(`'${backend}' is not a valid char driver name`);
  if (backend !== "socket") return { id, options: { type: backend as "stdio" | "null" } };
  return { id, options: readSocket(given) };
}

function readSocket(given: ReadonlyMap<string, string>): ChardevOptions {
  if (!isOn(given, "server", false)) {
    throw new QmpError("chardev: socket: only listening sockets are supported; expected server=on");
  }
  if (isOn(given, "wait", true))
    throw new QmpError("chardev: socket: waiting for a client is not supported; expected wait=off");
  for (const name of ["telnet", "tn3270", "websocket"]) {
    if (isOn(given, name, false)) throw new QmpError(`chardev: socket: ${name} is not supported`);
  }
  for (const name of ["reconnect", "tls-creds", "tls-authz", "logfile"]) {
    if (given.has(name)) throw new QmpError(`chardev: socket: ${name} is not supported`);
  }
  const path = given.get("path");
  const host = given.get("host");
  if (path !== undefined) return { type: "unix", path };
  if (host === undefined) throw new QmpError("chardev: socket: expected a path or a host");
  const port = given.get("port");
  if (port === undefined) throw new QmpError("chardev: socket: no port given");
  return { type: "inet", host, port };
}

function isOn(given: ReadonlyMap<string, string>, name: string, byDefault: boolean): boolean {
  const value = given.get(name);
  if (value === undefined) return byDefault;
  if (["on", "yes", "true", "y"].includes(value)) return true;
  if (["off", "no", "false", "n"].includes(value)) return false;
  throw new QmpError(`Parameter '${name}' expects 'on' or 'off'`);
}

/** `server,nowait`, as scripts of old have it. */
function withoutShortForms(text: string): string {
  return text
    .split(",")
    .map((part, index) => {
      if (index === 0 || part.includes("=") || part === "") return part;
      return part.startsWith("no") && part !== "nodelay" ? `${part.slice(2)}=off` : `${part}=on`;
    })
    .join(",");
}

/** @throws QmpError */
export function fromBackend(backend: Backend): ChardevOptions {
  if (backend.type !== "socket") return { type: backend.type };
  const { data } = backend;
  if (data.server === false) throw new QmpError("only listening sockets are supported");
  for (const name of [
    "wait",
    "telnet",
    "tn3270",
    "websocket",
    "reconnect",
    "tls-creds",
    "tls-authz",
    "logfile",
  ] as const) {
    if (data[name] !== undefined && data[name] !== false) throw new QmpError(`'${name}' is not supported`);
  }
  const { addr } = data;
  if (addr.type === "unix") return { type: "unix", path: addr.data.path };
  if (addr.type === "inet") return { type: "inet", host: addr.data.host, port: addr.data.port };
  throw new QmpError(`sockets of type '${addr.type}' are not supported`);
}
