/** `@heirloom/engine/thread`: what code on the engine's threads needs of it. The rest would be loaded by each for nothing. */
export { countedDiscard, type CountedKind, countedRead, countedWrite } from "./io-counters.ts";
export { furtherPart } from "./disk-io.ts";
export { waitOutside } from "./gatekeeper.ts";
