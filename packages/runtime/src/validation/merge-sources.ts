/** The bitmaps that are merged into another, as a program hands them over. */
import { checkList, isObject, refuse } from "./argument.ts";

/** @throws RefusalError for what names no bitmaps */
export function checkMergeSources(operation: string, sources: unknown): void {
  checkList(operation, "sources", sources);
  for (const [index, source] of (sources as unknown[]).entries()) {
    if (typeof source === "string") continue;
    if (!isObject(source)) refuse(operation, `sources[${index}]`, "a bitmap's name, or { disk, name }", source);
    if (!isObject(source.disk) && typeof source.disk !== "string")
      refuse(operation, `sources[${index}].disk`, "a disk, or its name", source.disk);
  }
}
