/** Drivers that users name and that block does not know: they are modules of other packages. */
import type { NodeSpec } from "@heirloom/block";
import { nbdDriver, parseNbdUri, startNbdTls } from "@heirloom/nbd";
import { Disk } from "./disk.ts";

/**
 * The specification with every `driver` as block has it.
 * @throws NbdError for a URI that is none
 */
export function withDriverModules(spec: NodeSpec): NodeSpec {
  const resolved = spec.driver === "nbd" ? nbd(spec) : spec;
  const { file } = resolved;
  const under = typeof file === "object" && file !== null && !(file instanceof Disk) && "driver" in file;
  return under ? { ...resolved, file: withDriverModules(file as NodeSpec) } : resolved;
}

function nbd(spec: NodeSpec): NodeSpec {
  // Here, so that the thread for TLS outlives the node.
  if (typeof spec.uri === "string" && parseNbdUri(spec.uri).tls !== undefined) startNbdTls();
  return { ...spec, driver: nbdDriver };
}
