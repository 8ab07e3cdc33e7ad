/**
 * Opening, connecting and closing nodes: the registry of drivers of this thread, and the walk over nested nodes.
 *
 * Loading a driver module is asynchronous; everything after it is synchronous, so that a thread which runs
 * straight-line code can connect a node at any time once `loadDrivers` was awaited for its handle.
 */
import assert from "node:assert/strict";
import { BlockError } from "./block-error.ts";
import { attached } from "./drivers/attached.ts";
import { blkdebug } from "./drivers/blkdebug.ts";
import { fault } from "./drivers/fault.ts";
import { file, hostDevice } from "./drivers/file.ts";
import { memory } from "./drivers/memory.ts";
import { nullCo } from "./drivers/null-co.ts";
import { raw } from "./drivers/raw.ts";
import { throttle } from "./drivers/throttle.ts";
import type { ImageUse } from "./image-lock.ts";
import { checkModuleHandle, ModuleNode } from "./module-node.ts";
import type { BlockNode, Driver, NodeHandle, NodeSpec, OpenContext } from "./node.ts";
import { readOptions } from "./options.ts";

/** Built-in drivers by name, the order of the README's table. */
export const builtInDrivers: Readonly<Record<string, Driver>> = {
  file,
  host_device: hostDevice,
  raw,
  memory,
  "null-co": nullCo,
  fault,
  blkdebug,
  throttle,
  attached,
};

/** Driver modules of this thread, by file URL. */
const loadedModules = new Map<string, Driver>();

/**
 * Opens a node and those under it, loading the driver modules that the specification names. Blocks in system calls
 * once the modules are loaded: call it on a helper thread where that matters.
 *
 * @throws BlockError; what was opened before the failure is closed.
 * @example
 * const handle = await openNode({ driver: "file", filename: "/images/a.raw" });
 * const node = connectNode(handle);
 * node.read(buffer, 0); // 0 or an errno
 * closeNode(handle);
 */
export async function openNode(spec: NodeSpec): Promise<NodeHandle> {
  const urls = new Set<string>();
  collectSpecModules(spec, urls);
  await loadModules(urls);
  return openLoaded(spec);
}

/** Loads on this thread the driver modules that a posted handle needs; then `connectNode` and `closeNode` work. */
export async function loadDrivers(handle: NodeHandle): Promise<void> {
  const urls = new Set<string>();
  collectHandleModules(handle, urls);
  await loadModules(urls);
}

/** Makes the node's verbs on this thread. The drivers must be loaded (`openNode` has done it on its own thread). */
export function connectNode(handle: NodeHandle): BlockNode {
  const node = findDriver(handle.driver).connect(handle, connectContext);
  return isModuleUrl(handle.driver) ? new ModuleNode(handle.driver, node) : node;
}

/** Gives back descriptors and locks, of the nodes under it as well. Call it once, when no thread uses the node. */
export function closeNode(handle: NodeHandle): void {
  findDriver(handle.driver).close(handle, closeContext);
}

/**
 * Opens a node anew, for writing or for reading only, without those noticing who have it connected. May block: call it on a
 * helper thread where that matters. The handles that there are do not change (`noteReopened`).
 *
 * @param use what a file that was opened with `locking: 'off'` is locked for now
 * @throws BlockError; then it is open as it was
 */
export function reopenNode(handle: NodeHandle, readOnly: boolean, use: ImageUse = "none"): void {
  const driver = findDriver(handle.driver);
  if (driver.reopen !== undefined) {
    driver.reopen(handle, readOnly, use);
    return;
  }
  const message = `reopen ${handle.driver}: a node of this driver cannot be reopened; close it and open it anew`;
  throw new BlockError("ERR_NOT_SUPPORTED", message, { node: handle.driver });
}

/** This thread's handle says so from now on, and those that are posted from it. */
export function noteReopened(handle: NodeHandle, readOnly: boolean): void {
  (handle as { readOnly: boolean }).readOnly = readOnly;
}

const connectContext = { connect: connectNode };
const closeContext = { close: closeNode };
const openContext: OpenContext = { open: openLoaded, close: closeNode, connect: connectNode };

function openLoaded(spec: NodeSpec): NodeHandle {
  const driver = findDriver(spec.driver);
  const { driver: name, ...given } = spec;
  const options = driver.options === undefined ? given : readOptions(name, driver.options, given);
  const handle = driver.open(options, openContext);
  if (isModuleUrl(name)) checkModuleHandle(name, handle);
  // A handle that another thread could not find its driver by is a bug of the driver, caught where it is made.
  assert.equal(handle.driver, name, "a handle's driver is the name that it was opened by");
  return handle;
}

function findDriver(name: string): Driver {
  const driver = Object.hasOwn(builtInDrivers, name) ? builtInDrivers[name] : loadedModules.get(name);
  if (driver !== undefined) return driver;
  const known = Object.keys(builtInDrivers).join(", ");
  const message = isModuleUrl(name)
    ? `find driver '${name}': the module is not loaded on this thread; expected a call of loadDrivers before`
    : `open node: unknown driver '${name}'; expected one of ${known}, or the file URL of a driver module`;
  throw new BlockError("ERR_DRIVER_UNKNOWN", message, { node: name });
}

async function loadModules(urls: ReadonlySet<string>): Promise<void> {
  for (const url of urls) {
    if (loadedModules.has(url)) continue;
    loadedModules.set(url, await importDriver(url));
  }
}

async function importDriver(url: string): Promise<Driver> {
  let module: { driver?: unknown };
  try {
    module = (await import(url)) as { driver?: unknown };
  } catch (cause) {
    const message = `load driver module '${url}': ${(cause as Error).message}`;
    throw new BlockError("ERR_DRIVER_INVALID", message, { node: url, cause });
  }
  const driver = module.driver as Partial<Driver> | undefined;
  for (const verb of ["open", "connect", "close"] as const) {
    if (typeof driver?.[verb] === "function") continue;
    const message = `load driver module '${url}': expected an export 'driver' with open, connect and close; '${verb}' is missing`;
    throw new BlockError("ERR_DRIVER_INVALID", message, { node: url });
  }
  return driver as Driver;
}

/** Any object with a `driver` inside the options may be a node: which ones are, only the drivers know. */
function collectSpecModules(value: unknown, urls: Set<string>): void {
  if (Array.isArray(value)) {
    for (const item of value) collectSpecModules(item, urls);
  } else if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value)) {
    const record = value as Record<string, unknown>;
    if (typeof record.driver === "string" && isModuleUrl(record.driver)) urls.add(record.driver);
    for (const name of Object.keys(record)) collectSpecModules(record[name], urls);
  }
}

function collectHandleModules(handle: NodeHandle, urls: Set<string>): void {
  if (isModuleUrl(handle.driver)) urls.add(handle.driver);
  for (const child of handle.children) collectHandleModules(child, urls);
}

function isModuleUrl(name: string): boolean {
  return name.startsWith("file:");
}
