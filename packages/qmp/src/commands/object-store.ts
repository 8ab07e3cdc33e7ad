/** Objects: made by `object-add`, found by their ids. Secrets are read when they are made, credentials are looked for. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { getSystemErrorMap } from "node:util";
import type { ObjectOptions } from "../generated/qmp-types.ts";
import { isIdentifier } from "../graph/node-name.ts";
import { noLimits, type ThrottleGroups } from "../graph/throttle-groups.ts";
import { QmpError } from "../qmp-error.ts";
import { readValue } from "../schema/read-value.ts";
import { throttleLimits } from "../table/objects.ts";
import type { JsonValue } from "../wire/json-value.ts";

type ObjectOf<Type extends ObjectOptions["qom-type"]> = Extract<ObjectOptions, { "qom-type": Type }>;
export type Credentials = ObjectOf<"tls-creds-x509"> | ObjectOf<"tls-creds-psk">;

interface StoredObject {
  readonly options: ObjectOptions;
  /** Of a secret. */
  readonly secret: Uint8Array | undefined;
}

export class ObjectStore {
  readonly #objects = new Map<string, StoredObject>();
  readonly #groups: ThrottleGroups;

  constructor(groups: ThrottleGroups) {
    this.#groups = groups;
  }

  /** @throws QmpError */
  add(options: ObjectOptions): void {
    const { id } = options;
    if (!isIdentifier(id)) throw new QmpError("Parameter 'id' expects an identifier");
    if (this.#objects.has(id)) {
      throw new QmpError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    }
    let secret: Uint8Array | undefined;
    if (options["qom-type"] === "secret") secret = readSecret(options);
    else if (options["qom-type"] === "throttle-group") this.#groups.add(id, limitsOf(options));
    else if (options["qom-type"] !== "iothread") checkCredentials(options);
    this.#objects.set(id, { options, secret });
  }

  /** @throws QmpError */
  remove(id: string): void {
    const object = this.#objects.get(id);
    if (object === undefined) throw new QmpError(`object '${id}' not found`);
    if (this.#groups.isUsed(id) || (this.#users.get(id) ?? 0) > 0) {
      throw new QmpError(`object '${id}' is in use, can not be deleted`);
    }
    if (object.options["qom-type"] === "throttle-group") this.#groups.remove(id);
    this.#objects.delete(id);
  }

  readonly #users = new Map<string, number>();
  /** It stays until `release` is called. */
  use(id: string): { release: () => void } {
    this.#users.set(id, (this.#users.get(id) ?? 0) + 1);
    return { release: () => void this.#users.set(id, (this.#users.get(id) ?? 1) - 1) };
  }

  /** Credentials by id, as nodes and servers ask for them. @throws QmpError */
  credentials(id: string, endpoint: "client" | "server"): Credentials {
    const options = this.#objects.get(id)?.options;
    if (options === undefined) throw new QmpError(`No TLS credentials with id '${id}'`);
    if (options["qom-type"] !== "tls-creds-x509" && options["qom-type"] !== "tls-creds-psk") {
      throw new QmpError(`Object with id '${id}' is not TLS credentials`);
    }
    if ((options.endpoint ?? "client") !== endpoint) {
      throw new QmpError(`Expecting TLS credentials with a ${endpoint} endpoint`);
    }
    return options;
  }

  /** An export may name one. */
  isIothread(id: string): boolean {
    return this.#objects.get(id)?.options["qom-type"] === "iothread";
  }

  /** @throws QmpError */
  secret(id: string): Uint8Array {
    const secret = this.#objects.get(id)?.secret;
    if (secret === undefined) throw new QmpError(`No secret with id '${id}'`);
    return secret;
  }

  /** @throws QmpError */
  listProperties(path: string): { name: string; type: string }[] {
    if (path === "/") return [typeProperty, { name: "objects", type: "child<container>" }];
    if (path === "/objects") {
      const children = [...this.#objects].map(([name, { options }]) => ({
        name,
        type: `child<${options["qom-type"]}>`,
      }));
      return [typeProperty, ...children.reverse()];
    }
    const { options } = this.#at(path);
    return [typeProperty, ...propertiesOf(options)];
  }

  /** @throws QmpError */
  get(path: string, property: string): unknown {
    const { id, options } = this.#at(path);
    const type = options["qom-type"];
    if (property === "type") return type;
    if (!propertiesOf(options).some(({ name }) => name === property)) throw noProperty(type, property);
    if (type === "throttle-group") {
      const limits = this.#groups.get(id) ?? noLimits;
      return property === "limits" ? { ...limits } : limits[property.slice(2) as keyof typeof limits];
    }
    return (options as unknown as Record<string, unknown>)[property] ?? defaults[property] ?? "";
  }

  /** @throws QmpError */
  set(path: string, property: string, value: JsonValue): void {
    const { id, options } = this.#at(path);
    const type = options["qom-type"];
    if (!propertiesOf(options).some(({ name }) => name === property)) throw noProperty(type, property);
    if (type !== "throttle-group" || property !== "limits") {
      throw new QmpError(`Property '${property}' of ${type} cannot be changed`);
    }
    this.#groups.change(id, readValue(throttleLimits, value, property) as Readonly<Record<string, number>>);
  }

  #at(path: string): { readonly id: string; readonly options: ObjectOptions } {
    const id = path.startsWith("/objects/") ? path.slice("/objects/".length) : path;
    const object = this.#objects.get(id);
    if (object === undefined) throw new QmpError(`Device '${path}' not found`, "DeviceNotFound");
    return { id, options: object.options };
  }
}

const typeProperty = { name: "type", type: "string" };
const defaults: Readonly<Record<string, unknown>> = {
  format: "raw",
  loaded: true,
  "verify-peer": true,
  "sanity-check": true,
  endpoint: "client",
  "poll-max-ns": 32768,
  "poll-grow": 0,
  "poll-shrink": 0,
  "aio-max-batch": 0,
  "thread-pool-min": 0,
  "thread-pool-max": 64,
};

function noProperty(type: string, property: string): QmpError {
  return new QmpError(`Property '${type}.${property}' not found`);
}

const credentialProperties = [
  { name: "verify-peer", type: "bool" },
  { name: "dir", type: "string" },
  { name: "endpoint", type: "QCryptoTLSCredsEndpoint" },
  { name: "priority", type: "string" },
  { name: "loaded", type: "bool" },
];

/** A secret's value is none of them: whoever can ask could read it. */
function propertiesOf(options: ObjectOptions): { name: string; type: string }[] {
  switch (options["qom-type"]) {
    case "iothread":
      return Object.keys(defaults)
        .filter((name) => /^(poll|aio|thread)-/.test(name))
        .map((name) => ({ name, type: "int" }));
    case "secret":
      return [
        { name: "loaded", type: "bool" },
        { name: "format", type: "QCryptoSecretFormat" },
        { name: "file", type: "string" },
      ];
    case "throttle-group":
      return [
        { name: "limits", type: "ThrottleLimits" },
        ...Object.keys(noLimits).map((name) => ({ name: `x-${name}`, type: "int" })),
      ];
    case "tls-creds-psk":
      return [...credentialProperties, { name: "username", type: "string" }];
    case "tls-creds-x509":
      return [...credentialProperties, { name: "sanity-check", type: "bool" }, { name: "passwordid", type: "string" }];
  }
}

function limitsOf(options: ObjectOf<"throttle-group">): Readonly<Record<string, number>> {
  const limits: Record<string, number> = { ...options.limits };
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("x-")) limits[name.slice(2)] = value as number;
  }
  return limits;
}

function readSecret(options: ObjectOf<"secret">): Uint8Array {
  const { data, file, format = "raw" } = options;
  if (options.keyid !== undefined || options.iv !== undefined)
    throw new QmpError("Encrypted secrets are not supported");
  if (data !== undefined && file !== undefined) throw new QmpError("'file' and 'data' are mutually exclusive");
  if (data === undefined && file === undefined) throw new QmpError("Either 'file' or 'data' must be provided");
  const bytes = file === undefined ? Buffer.from(data ?? "") : readFile(file);
  if (format === "raw") return bytes;
  const text = bytes.toString("latin1").trim();
  if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(text)) throw new QmpError("Base64 data contains invalid characters");
  return Buffer.from(text, "base64");
}

function readFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new QmpError(`Unable to read ${file}: Failed to open file \u201C${file}\u201D: ${sentence(error)}`);
  }
}

function sentence(error: unknown): string {
  const { errno, message } = error as NodeJS.ErrnoException;
  const text = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  return text === undefined ? message : text[0].toUpperCase() + text.slice(1);
}

/** The files that QEMU reads when the object is made must be there; what is in them is looked at when they are used. */
function checkCredentials(options: Credentials): void {
  const { dir } = options;
  if (dir === undefined) throw new QmpError("Missing 'dir' property value");
  if (options.priority !== undefined) throw new QmpError("TLS priorities of GnuTLS are not supported");
  const server = options.endpoint === "server";
  const files =
    options["qom-type"] === "tls-creds-psk"
      ? ["keys.psk"]
      : ["ca-cert.pem", ...(server ? ["server-cert.pem", "server-key.pem"] : [])];
  for (const file of files) {
    const path = join(dir, file);
    if (!existsSync(path)) throw new QmpError(`Unable to access credentials ${path}: No such file or directory`);
  }
}
