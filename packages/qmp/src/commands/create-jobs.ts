/** Jobs of `blockdev-create`: they make a file, and stay until they are dismissed, with what went wrong. */
import { openNode, closeNode, BlockError, errnoText } from "@heirloom/block";
import { isIdentifier } from "../graph/node-name.ts";
import { QmpError } from "../qmp-error.ts";
import type { JobInfo, JobStatus, QmpCommands } from "../generated/qmp-types.ts";
import type { Emit } from "./context.ts";

type CreateOptions = QmpCommands["blockdev-create"]["arguments"]["options"];

interface CreateJob {
  readonly id: string;
  status: JobStatus;
  error: string | undefined;
}

export class CreateJobs {
  readonly #emit: Emit;
  readonly #jobs = new Map<string, CreateJob>();

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  /** Newest last. */
  list(): JobInfo[] {
    return [...this.#jobs.values()].map(({ id, status, error }) => ({
      id,
      type: "create",
      status,
      "current-progress": status === "running" || status === "created" ? 0 : 1,
      "total-progress": 1,
      ...(error === undefined ? {} : { error }),
    }));
  }

  has(id: string): boolean {
    return this.#jobs.has(id);
  }

  /** Returns when it has begun. @param isTaken by a job of another kind @throws QmpError */
  start(id: string, options: CreateOptions, isTaken: (id: string) => boolean): void {
    if (options.driver !== "file") throw new QmpError("Driver does not support blockdev-create");
    if (!isIdentifier(id)) throw new QmpError(`Invalid job ID '${id}'`);
    if (this.#jobs.has(id) || isTaken(id)) throw new QmpError(`Job ID '${id}' already in use`);
    const job: CreateJob = { id, status: "created", error: undefined };
    this.#jobs.set(id, job);
    this.#emit("JOB_STATUS_CHANGE", { id, status: "created" });
    this.#move(job, "running");
    void this.#run(job, options);
  }

  /** A verb for a job that is there. @throws QmpError */
  verb(id: string, verb: "cancel" | "pause" | "resume" | "complete" | "finalize" | "dismiss"): void {
    const job = this.#jobs.get(id);
    if (job === undefined) throw new QmpError("Job not found");
    if (verb === "resume") throw new QmpError("Can't resume a job that was not paused");
    if (verb !== "dismiss" || job.status !== "concluded") {
      throw new QmpError(`Job '${id}' in state '${job.status}' cannot accept command verb '${verb}'`);
    }
    this.#jobs.delete(id);
    this.#emit("JOB_STATUS_CHANGE", { id, status: "null" });
  }

  async #run(job: CreateJob, options: Extract<CreateOptions, { driver: "file" }>): Promise<void> {
    job.error = await createFile(options);
    for (const status of job.error === undefined ? (["waiting", "pending"] as const) : (["aborting"] as const)) {
      this.#move(job, status);
    }
    this.#move(job, "concluded");
  }

  #move(job: CreateJob, status: JobStatus): void {
    job.status = status;
    this.#emit("JOB_STATUS_CHANGE", { id: job.id, status });
  }
}

/** @returns what went wrong */
async function createFile(options: Extract<CreateOptions, { driver: "file" }>): Promise<string | undefined> {
  const { filename, size: length, preallocation = "off" } = options;
  if (preallocation !== "off") return `Unsupported preallocation mode '${preallocation}'`;
  if (!Number.isSafeInteger(length)) return `Could not resize file: File too large`;
  try {
    closeNode(await openNode({ driver: "file", filename, create: { length, overwrite: true } }));
    return undefined;
  } catch (error) {
    if (error instanceof BlockError && error.errno !== undefined && error.code === "ERR_NODE_OPEN") {
      return `Could not create '${filename}': ${errnoText(error.errno)}`;
    }
    return (error as Error).message;
  }
}
