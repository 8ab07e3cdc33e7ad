/** Events. */
import { bool, enumeration, type EventTable, int, list, optional, required, str, struct } from "../schema/type.ts";
import { jobStatus, jobType } from "./jobs.ts";

const counts = {
  len: required(int, "bytes in all"),
  offset: required(int, "bytes done"),
  speed: required(int, "bytes a second; 0: unlimited"),
};
const about = { type: required(jobType, "what the job does"), device: required(str, "id of the job") };
const operation = enumeration("IoOperationType", ["read", "write"], "kinds of I/O");
const action = enumeration("BlockErrorAction", ["ignore", "report", "stop"], "what an error does");

export const events: EventTable = {
  JOB_STATUS_CHANGE: {
    doc: "A job has gone on.",
    data: struct("", "", { id: required(str, "id of the job"), status: required(jobStatus, "where it stands now") }),
  },
  BLOCK_JOB_COMPLETED: {
    doc: "A job has ended, with success or with an error.",
    data: struct("", "", { ...about, ...counts, error: optional(str, "why it failed") }),
  },
  BLOCK_JOB_CANCELLED: { doc: "A job was cancelled.", data: struct("", "", { ...about, ...counts }) },
  BLOCK_JOB_PENDING: {
    doc: "A job has done its work and waits for job-finalize.",
    data: struct("", "", { type: about.type, id: required(str, "id of the job") }),
  },
  BLOCK_JOB_ERROR: {
    doc: "A job met an I/O error.",
    data: struct("", "", {
      device: about.device,
      operation: required(operation, "what failed"),
      action: required(action, "what became of the job"),
    }),
  },
  BLOCK_IO_ERROR: {
    doc: "The point in time of a copy-before-write node was given up, and the guest went on: reads of it fail from now on.",
    data: struct("", "", {
      device: required(str, "empty: nodes here are no devices"),
      "node-name": optional(str, "the node"),
      operation: required(operation, "read: old data could not be read; write: it could not be kept"),
      action: required(action, "ignore: the guest's request was done"),
      nospace: optional(bool, "there was no room for it"),
      reason: required(str, "for people"),
    }),
  },
  JOURNAL_FAILED: {
    doc: "Ours alone. What a node's persistent bitmaps are kept in could not be written: they are inconsistent from now on, and guests go on.",
    data: struct("", "", {
      "node-name": required(str, "the node"),
      bitmaps: required(list(str), "those that were consistent until now"),
      reason: required(str, "what failed"),
    }),
  },
  BLOCK_EXPORT_DELETED: { doc: "An export is gone.", data: struct("", "", { id: required(str, "its id") }) },
};
