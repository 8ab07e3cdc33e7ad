/** All scenarios. */
import { gateScenarios } from "./gate.mjs";
import { viewScenarios } from "./view.mjs";

/** @type {import("../batch.mjs").Scenario[]} */
export const scenarios = [...gateScenarios, ...viewScenarios];
