/**
 * Which metadata contexts of an export a client means.
 *
 * A query names one context, exactly. When it only lists, a query may also stand for a whole family: a namespace with
 * nothing after its colon ("base:", "qemu:"), or "qemu:dirty-bitmap:" for all bitmaps. When it selects, an empty leaf
 * selects nothing. What nobody here knows matches nothing, which is no error.
 */
import { CONTEXT_BITMAP } from "../protocol/constants.ts";
import type { ExportOffer, SelectedContext } from "./export-offer.ts";

/** No queries at all means everything. @returns names in the offer's order */
export function listedContexts(offer: ExportOffer, queries: ReadonlySet<string>): readonly string[] {
  if (queries.size === 0) return offer.contexts;
  return offer.contexts.filter(
    (name) =>
      queries.has(name) ||
      queries.has(name.slice(0, name.indexOf(":") + 1)) ||
      (name.startsWith(CONTEXT_BITMAP) && queries.has(CONTEXT_BITMAP)),
  );
}

/**
 * No queries select nothing. An id is the context's place in the offer, counted from 1: the same for the same name as
 * long as the offer stands, however often a client selects.
 */
export function selectedContexts(offer: ExportOffer, queries: ReadonlySet<string>): readonly SelectedContext[] {
  const selected: SelectedContext[] = [];
  for (const [index, name] of offer.contexts.entries()) if (queries.has(name)) selected.push({ id: index + 1, name });
  return selected;
}
