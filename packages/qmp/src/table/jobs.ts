/** Commands about jobs: the newer ones by id, and QEMU's older ones by device, which here is the id as well. */
import {
  bool,
  command,
  type CommandTable,
  enumeration,
  type Enum,
  int,
  list,
  optional,
  required,
  str,
  struct,
  type Struct,
} from "../schema/type.ts";

export const jobType: Enum = enumeration(
  "JobType",
  ["commit", "stream", "mirror", "backup", "create", "amend", "snapshot-load", "snapshot-save", "snapshot-delete"],
  "kinds of jobs; here there are backup and create",
);
export const jobStatus: Enum = enumeration(
  "JobStatus",
  [
    "undefined",
    "created",
    "running",
    "paused",
    "ready",
    "standby",
    "waiting",
    "pending",
    "aborting",
    "concluded",
    "null",
  ],
  "where a job stands",
);
const ioStatus: Enum = enumeration("BlockDeviceIoStatus", ["ok", "failed", "nospace"], "why a job stopped by itself");

const jobInfo: Struct = struct("JobInfo", "a job", {
  id: required(str, "its id"),
  type: required(jobType, "what it does"),
  status: required(jobStatus, "where it stands"),
  "current-progress": required(int, "bytes done"),
  "total-progress": required(int, "bytes in all, as known now"),
  error: optional(str, "why it failed"),
});

const blockJobInfo: Struct = struct("BlockJobInfo", "a backup job", {
  type: required(str, "backup"),
  device: required(str, "its id"),
  len: required(int, "bytes in all, as known now"),
  offset: required(int, "bytes done"),
  busy: required(bool, "it is at work"),
  paused: required(bool, "a user, or an error, has paused it"),
  speed: required(int, "bytes a second; 0: unlimited"),
  "io-status": required(ioStatus, "why it stopped by itself"),
  ready: required(bool, "false"),
  status: required(jobStatus, "where it stands"),
  "auto-finalize": required(bool, "it ends by itself"),
  "auto-dismiss": required(bool, "it goes when it has ended"),
  error: optional(str, "why it failed"),
});

const id = { id: required(str, "id of the job") };
const device = { device: required(str, "id of the job") };

export const jobCommands: CommandTable = {
  "query-jobs": command({ doc: "All jobs, newest first.", result: list(jobInfo) }),
  "job-pause": command({ doc: "Stops the copying; what guests overwrite is kept all the same.", arguments: id }),
  "job-resume": command({
    doc: "Goes on. A resumable job that was cut off finds its target among the nodes, by what it is and not by its name.",
    arguments: {
      ...id,
      target: optional(str, "ours alone: the node that is its target; if it is another one, the job is given up"),
      filename: optional(
        str,
        "ours alone: the file or device that is its target, opened for it and closed with it; another one is refused",
      ),
    },
  }),
  "job-cancel": command({ doc: "Ends the job without success: its bitmap is reclaimed.", arguments: id }),
  "job-complete": command({ doc: "Ends a job that is ready; no backup ever is.", arguments: id }),
  "job-finalize": command({ doc: "Ends a pending job with success.", arguments: id }),
  "job-dismiss": command({ doc: "Forgets a concluded job.", arguments: id }),
  "query-block-jobs": command({ doc: "All backup jobs, newest first.", result: list(blockJobInfo) }),
  "block-job-cancel": command({
    doc: "As job-cancel.",
    arguments: { ...device, force: optional(bool, "also if a user has paused it (default false)") },
  }),
  "block-job-pause": command({ doc: "As job-pause.", arguments: device }),
  "block-job-resume": command({ doc: "As job-resume.", arguments: device }),
  "block-job-complete": command({ doc: "As job-complete.", arguments: device }),
  "block-job-finalize": command({ doc: "As job-finalize.", arguments: id }),
  "block-job-dismiss": command({ doc: "As job-dismiss.", arguments: id }),
  "block-job-set-speed": command({
    doc: "Limits a job.",
    arguments: { ...device, speed: required(int, "bytes a second; 0: unlimited") },
  }),
};
