/** Completions that only who is driven knows. Where nobody answers at once there are none. */
import type { QmpClient } from "@heirloom/qmp";
import { jobsOf } from "./jobs.ts";

const PROPOSE_MS = 500;

/** Names of nodes, where HEIRLOOM_CONTROL says whom to ask. */
export async function proposeNodes(partial: string): Promise<readonly string[]> {
  const names = await ask(async (qmp) =>
    (await qmp.execute("query-named-block-nodes", { flat: true })).map((node) => node["node-name"] ?? ""),
  );
  return names.filter((name) => name.startsWith(partial) && !name.startsWith("#"));
}

/** Ids of jobs. */
export async function proposeJobs(partial: string): Promise<readonly string[]> {
  const ids = await ask(async (qmp) => (await qmp.execute("query-jobs")).map(({ id }) => id));
  return ids.filter((id) => id.startsWith(partial));
}

/** Ids of jobs that can be resumed. */
export async function proposePaused(partial: string): Promise<readonly string[]> {
  const jobs = await ask(async (qmp) => (await jobsOf(qmp)).filter(({ paused }) => paused).map(({ id }) => id));
  return jobs.filter((id) => id.startsWith(partial));
}

async function ask(question: (qmp: QmpClient) => Promise<readonly string[]>): Promise<readonly string[]> {
  const path = process.env.HEIRLOOM_CONTROL;
  if (path === undefined || path === "") return [];
  try {
    const { QmpClient } = await import("@heirloom/qmp");
    using qmp = await QmpClient.connect({ path }, { connectTimeoutMs: PROPOSE_MS });
    return await question(qmp);
  } catch {
    return [];
  }
}
