/** Who a target is, over restarts: its node's own identity is made of numbers that the next start may give to somebody else. */
import { connectNode, type DirectFile, type NodeHandle } from "@heirloom/block";
import { identify } from "@heirloom/journal";

/**
 * Of a file its inode and birth, of a device its lasting name, of an NBD export its address; with the length and where in it the
 * node's window begins. Undefined for what is gone with the process, or that nobody can tell again.
 */
export function lastingIdentity(node: NodeHandle, length: number): string | undefined {
  if (node.identity.startsWith("nbd:")) return `${node.identity}, ${length} bytes`;
  const file = fileOf(node);
  if (file !== undefined) {
    try {
      const { kind, name } = identify(`/proc/self/fd/${file.fd}`, length);
      return `${kind} ${name} from ${file.shift}, ${length} bytes`;
    } catch {
      return undefined; // a device without a lasting name
    }
  }
  const [child] = node.children;
  const under = child === undefined ? undefined : lastingIdentity(child, length);
  return under === undefined ? undefined : `${node.driver} on ${under}`;
}

function fileOf(node: NodeHandle): DirectFile | undefined {
  try {
    return connectNode(node).direct;
  } catch {
    return undefined; // its driver is a module that threads have, and this one has not
  }
}
