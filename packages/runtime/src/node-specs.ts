/** Drivers that users name and that block does not know: they are modules of other packages. */
import type { NodeSpec } from "@heirloom/block";
import { nbdDriver } from "@heirloom/nbd";
import { Disk } from "./disk.ts";

const modules: Readonly<Record<string, string>> = { nbd: nbdDriver };

/** The specification with every `driver` as block has it. */
export function withDriverModules(spec: NodeSpec): NodeSpec {
  const { file } = spec;
  const driver = Object.hasOwn(modules, spec.driver) ? modules[spec.driver] : spec.driver;
  const under = typeof file === "object" && file !== null && !(file instanceof Disk) && "driver" in file;
  return under ? { ...spec, driver, file: withDriverModules(file as NodeSpec) } : { ...spec, driver };
}
