import { faults } from "./faults.mjs";
import { Harness } from "./harness.mjs";
import { scenarioThreads } from "./scenario-names.mjs";
const only = process.argv[2];
for (const fault of faults) {
  if (only !== undefined && !fault.name.includes(only)) continue;
  const t = Date.now();
  const { expect, ...plain } = fault;
  const harness = new Harness(scenarioThreads[fault.scenario], plain);
  try {
    const r = await harness.run({ scenario: fault.scenario, mode: "seeds", from: 1, count: fault.seeds ?? 4000, bound: 0 });
    console.log(r.failure === undefined ? "MISSED" : expect.test(r.failure.message) ? "caught" : "OTHER", fault.name, r.schedules, Date.now() - t, "ms", r.failure?.message.split("\n")[0]);
  } catch (e) { console.log("ERROR", fault.name, String(e).split("\n")[0]); }
  await harness.close();
}
