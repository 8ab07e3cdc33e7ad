/** Objects that others refer to by id: secrets, credentials, throttle groups. */
import {
  any,
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

const loaded = optional(bool, "taken, without effect", ["deprecated"]);

const secret: Struct = struct("SecretProperties", "a secret", {
  loaded,
  format: optional(
    enumeration("QCryptoSecretFormat", ["raw", "base64"], "how data is written"),
    "raw (default) or base64",
  ),
  keyid: optional(str, "refused"),
  iv: optional(str, "refused"),
  data: optional(str, "the secret"),
  file: optional(str, "a file that holds it"),
});

const endpoint = enumeration("QCryptoTLSCredsEndpoint", ["client", "server"], "side of a connection");
const credentials: Members = {
  "verify-peer": optional(bool, "the other side must prove who it is (default true)"),
  dir: optional(str, "directory with the files"),
  endpoint: optional(endpoint, "client (default) or server"),
  priority: optional(str, "refused: Node's TLS has no GnuTLS priorities"),
  loaded,
};
const x509: Struct = struct("TlsCredsX509Properties", "certificates", {
  ...credentials,
  "sanity-check": optional(bool, "taken, without effect"),
  passwordid: optional(str, "id of the secret that opens the key"),
});
const psk: Struct = struct("TlsCredsPskProperties", "keys shared beforehand", {
  ...credentials,
  username: optional(str, "whose key a client takes (default qemu)"),
});

const limitNames = ["iops-total", "iops-read", "iops-write", "bps-total", "bps-read", "bps-write"];
const limitMembers = (prefix: string, unstable: boolean): Members =>
  Object.fromEntries(
    [...limitNames.flatMap((name) => [name, `${name}-max`, `${name}-max-length`]), "iops-size"].map((name) => [
      `${prefix}${name}`,
      optional(int, limitDoc(name), unstable ? ["unstable"] : []),
    ]),
  );

function limitDoc(name: string): string {
  if (name === "iops-size") return "bytes that count as one request; 0: each request counts once";
  if (name.endsWith("-max-length")) return "seconds that a burst may last";
  const unit = name.startsWith("bps") ? "bytes a second" : "requests a second";
  return name.endsWith("-max") ? `${unit} in bursts` : `${unit}; 0: no limit`;
}

export const throttleLimits: Struct = struct("ThrottleLimits", "limits", limitMembers("", false));
const throttleGroup: Struct = struct("ThrottleGroupProperties", "limits that nodes share", {
  limits: optional(throttleLimits, "the limits"),
  ...limitMembers("x-", true),
});

const iothreadNames = [
  "poll-max-ns",
  "poll-grow",
  "poll-shrink",
  "aio-max-batch",
  "thread-pool-min",
  "thread-pool-max",
];
const iothread: Struct = struct(
  "IothreadProperties",
  "a thread, for command lines that give one: here threads come with work, whatever is asked for",
  Object.fromEntries(iothreadNames.map((name) => [name, optional(int, "taken, without effect")])),
);

export const objectOptions: Union = {
  kind: "union",
  name: "ObjectOptions",
  doc: "an object",
  members: {
    "qom-type": required(
      enumeration(
        "ObjectType",
        ["iothread", "secret", "throttle-group", "tls-creds-psk", "tls-creds-x509"],
        "kinds of objects",
      ),
      "what it is",
    ),
    id: required(str, "its id"),
  },
  tag: "qom-type",
  variants: {
    iothread: () => iothread,
    secret: () => secret,
    "throttle-group": () => throttleGroup,
    "tls-creds-psk": () => psk,
    "tls-creds-x509": () => x509,
  },
};

const propertyInfo: Struct = struct("ObjectPropertyInfo", "a property", {
  name: required(str, "its name"),
  type: required(str, "its type"),
  description: optional(str, "what it is"),
  "default-value": optional(any, "its default"),
});
const path = { path: required(str, "`/objects/ID`, or the id alone") };

export const objectCommands: CommandTable = {
  "object-add": command({ doc: "Makes an object.", arguments: objectOptions }),
  "object-del": command({ doc: "Takes an object away that nobody uses.", arguments: { id: required(str, "its id") } }),
  "qom-list": command({ doc: "Properties of an object.", arguments: path, result: list(propertyInfo) }),
  "qom-get": command({
    doc: "A property of an object.",
    arguments: { ...path, property: required(str, "the property") },
    result: any,
  }),
  "qom-set": command({
    doc: "Changes a property of an object.",
    arguments: { ...path, property: required(str, "the property"), value: required(any, "its value") },
  }),
};
