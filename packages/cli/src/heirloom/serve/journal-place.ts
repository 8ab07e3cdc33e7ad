/** `--journal PLACE`: `beside` each image, or a directory (one of that name is written `./beside`). */
import { resolve } from "node:path";

export function placeOf(journal: string): { readonly directory?: string } {
  return journal === "beside" ? {} : { directory: resolve(journal) };
}
