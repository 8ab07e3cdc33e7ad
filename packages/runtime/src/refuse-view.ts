/** Disks that cannot have a point-in-time view: refused before anything is allocated. */
import { type Layer, viewRefusal } from "@heirloom/engine";
import { refusal, RefusalError } from "./errors.ts";

/**
 * @param clusterSize of the job, bytes @param alignment of source and target, bytes
 * @throws RefusalError if a view of this layer would have too many clusters
 */
export function refuseView(operation: string, layer: Layer, clusterSize: number, alignment: number): void {
  const reason = viewRefusal(layer.table.length, clusterSize, alignment);
  if (reason !== undefined) throw new RefusalError(operation, refusal("ERR_BITMAP_TOO_LARGE", reason, { clusterSize }));
}
