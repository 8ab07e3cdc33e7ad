/**
 * The descriptor under a socket or server of node:net. Node has it on the handle, undocumented, since its first
 * versions; this is the one place that relies on it.
 */
import type { Server, Socket } from "node:net";

export function descriptorOf(socket: Socket | Server): number {
  const handle = Reflect.get(socket, "_handle") as { readonly fd?: unknown } | null | undefined;
  const fd = handle?.fd;
  if (typeof fd === "number" && fd >= 0) return fd;
  throw new Error("Heirloom's own invariant does not hold: a socket of this version of Node tells no descriptor");
}
