/** All scenarios. */
import { bitmapScenarios } from "./bitmap.mjs";
import { gateScenarios } from "./gate.mjs";
import { journalScenarios } from "./journal.mjs";
import { layerScenarios } from "./layers.mjs";
import { viewScenarios } from "./view.mjs";

/** @type {import("../batch.mjs").Scenario[]} */
export const scenarios = [
  ...gateScenarios,
  ...viewScenarios,
  ...layerScenarios,
  ...bitmapScenarios,
  ...journalScenarios,
];
