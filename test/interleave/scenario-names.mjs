/**
 * Threads of each scenario, for the side that starts them: it must not load the scenarios, since they load the code under
 * test. @type {Record<string, number>}
 */
export const scenarioThreads = {
  gate: 3,
  table: 3,
  "gate-death": 3,
  group: 3,
  freeze: 3,
  "same-cluster": 3,
  copier: 3,
  "copier-run": 4,
  "copier-small": 3,
  "copier-cancel": 3,
  "copier-zeroes": 4,
  "two-copiers": 4,
  kernel: 3,
  "kernel-small": 3,
  "two-kernel-copiers": 4,
  "kernel-zeroes": 4,
  spill: 4,
  "spill-break": 4,
  "spill-kernel": 4,
  "spill-refuses-guest": 3,
  "spill-file": 4,
  "spill-zeroes": 4,
  set: 3,
  "death-of-a-guest": 4,
  "death-of-a-copier": 4,
};
