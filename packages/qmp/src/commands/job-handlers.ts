import type { Job, JobInfo as RuntimeJobInfo } from "@heirloom/runtime";
import type { BlockJobInfo, JobInfo, JobStatus } from "../generated/qmp-types.ts";
import { asQmpError } from "../graph/qemu-text.ts";
import { QmpError } from "../qmp-error.ts";
import type { Handlers } from "../server/command-set.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<
  Handlers,
  | "query-jobs"
  | "job-pause"
  | "job-resume"
  | "job-cancel"
  | "job-complete"
  | "job-finalize"
  | "job-dismiss"
  | "query-block-jobs"
  | "block-job-cancel"
  | "block-job-pause"
  | "block-job-resume"
  | "block-job-complete"
  | "block-job-finalize"
  | "block-job-dismiss"
  | "block-job-set-speed"
>;
type Verb = "pause" | "resume" | "cancel" | "complete" | "finalize" | "dismiss";
type Done = Readonly<Record<string, never>> | Promise<Readonly<Record<string, never>>>;

export function jobHandlers(context: CommandContext): Family {
  const byId =
    (verb: Verb) =>
    ({ id }: { readonly id: string }): Done => {
      if (context.createJobs.has(id)) {
        context.createJobs.verb(id, verb);
        return {};
      }
      return apply(jobOf(context, id, jobNotFound), verb, true);
    };
  const byDevice =
    (verb: Verb) =>
    ({ device, force = false }: { readonly device: string; readonly force?: boolean }): Done =>
      apply(jobOf(context, device, blockJobNotFound), verb, force);
  const byBlockJobId =
    (verb: Verb) =>
    ({ id }: { readonly id: string }): Done =>
      apply(jobOf(context, id, blockJobNotFound), verb, true);
  return {
    "query-jobs": () =>
      [...context.runtime.jobs.map((job) => jobInfo(job.info)), ...context.createJobs.list()].reverse(),
    "job-pause": byId("pause"),
    "job-resume": ({ id, target, filename }) => {
      if (target !== undefined && filename !== undefined)
        throw new QmpError("'target' and 'filename' cannot be given together");
      if (target === undefined && filename === undefined) return byId("resume")({ id });
      return resumeWith(context, jobOf(context, id, jobNotFound), { target, filename });
    },
    "job-cancel": byId("cancel"),
    "job-complete": byId("complete"),
    "job-finalize": byId("finalize"),
    "job-dismiss": byId("dismiss"),
    "query-block-jobs": () => context.runtime.jobs.map((job) => blockJobInfo(job.info)).reverse(),
    "block-job-cancel": byDevice("cancel"),
    "block-job-pause": byDevice("pause"),
    "block-job-resume": byDevice("resume"),
    "block-job-complete": byDevice("complete"),
    "block-job-finalize": byBlockJobId("finalize"),
    "block-job-dismiss": byBlockJobId("dismiss"),
    "block-job-set-speed": ({ device, speed }) => {
      const job = jobOf(context, device, blockJobNotFound);
      return inWords(() => job.setSpeed(speed));
    },
  };
}

/** A node was put there for the job, and another one ends it; the name of a file is easily mistaken, and nothing is lost by it. */
async function resumeWith(
  { graph, runtime }: CommandContext,
  job: Job,
  { target = "", filename }: { readonly target: string | undefined; readonly filename: string | undefined },
): Promise<Readonly<Record<string, never>>> {
  try {
    if (filename === undefined) await runtime.resume(job, { target: graph.get(target).disk });
    else await runtime.resume(job, { target: { driver: "file", filename }, onOther: "refuse" });
  } catch (error) {
    throw asQmpError(error);
  }
  return {};
}

function jobNotFound(): QmpError {
  return new QmpError("Job not found");
}
function blockJobNotFound(id: string): QmpError {
  return new QmpError(`Block job '${id}' not found`, "DeviceNotActive");
}

function jobOf(context: CommandContext, id: string, notFound: (id: string) => QmpError): Job {
  const job = context.runtime.jobs.find((one) => one.id === id);
  if (job === undefined) throw notFound(id);
  return job;
}

/**
 * A cancel and a finalize are answered when the job has ended, so that who asked finds its bitmap free; unless the end takes
 * longer than anybody should wait for (a gate that is held, a flush that hangs): then the events say when.
 */
function apply(job: Job, verb: Verb, force: boolean): Done {
  const before = job.info.status;
  inWords(() => (verb === "cancel" ? job.cancel({ force }) : job[verb]()));
  if (verb !== "cancel" && (verb !== "finalize" || before !== "pending")) return {};
  return endOf(job);
}

const endMs = 2000;

async function endOf(job: Job): Promise<Readonly<Record<string, never>>> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([job.done, new Promise((resolve) => (timer = setTimeout(resolve, endMs)))]);
  clearTimeout(timer);
  return {};
}

function inWords(work: () => void): Readonly<Record<string, never>> {
  try {
    work();
  } catch (error) {
    throw asQmpError(error);
  }
  return {};
}

function jobInfo({ id, type, status, offset, length, error }: RuntimeJobInfo): JobInfo {
  return {
    id,
    type,
    status: status as JobStatus,
    "current-progress": offset,
    "total-progress": length,
    ...(error === null ? {} : { error }),
  };
}

function blockJobInfo(info: RuntimeJobInfo): BlockJobInfo {
  return {
    type: info.type,
    device: info.id,
    len: info.length,
    offset: info.offset,
    busy: info.status === "running",
    paused: info.paused,
    speed: info.speed,
    "io-status": info.ioStatus as BlockJobInfo["io-status"],
    ready: false,
    status: info.status as JobStatus,
    "auto-finalize": info.autoFinalize,
    "auto-dismiss": info.autoDismiss,
    ...(info.error === null ? {} : { error: info.error }),
  };
}
