/** What `--monitor` takes. */
import { bool, enumeration, optional, required, str, struct, type Struct } from "@heirloom/qmp/schema";

export const monitorOptions: Struct = struct("MonitorOptions", "a monitor", {
  id: optional(str, "its id"),
  mode: optional(enumeration("MonitorMode", ["readline", "control"], "protocols"), "control, which is QMP"),
  pretty: optional(bool, "answers on several lines (default off)"),
  chardev: required(str, "the character device"),
});
