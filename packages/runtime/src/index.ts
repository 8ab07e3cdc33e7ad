export { type ArtefactBackup, type ArtefactOptions, type ArtefactResult, backupToArtefact } from "./artefact.ts";
export {
  type Artefact,
  type ArtefactExtent,
  artefactFormat,
  type ArtefactMap,
  artefactVersion,
  readArtefact,
} from "./artefact-map.ts";
export type { BitmapAddOptions, BitmapSource, DiskBitmaps } from "./disk-bitmaps.ts";
export { Disk } from "./disk.ts";
export type { DiskExport } from "./disk-export.ts";
export type { DiskServer, ExportOptions, ServeOptions } from "./disk-server.ts";
export { HeirloomError, RefusalError, type RefusalCode, type RefusalFields } from "./errors.ts";
export type { RuntimeFigures, SpillFigures } from "./figures.ts";
export { Job } from "./job.ts";
export type { JobInspection } from "./job-inspection.ts";
export { bitmapMachine } from "./machines/bitmap-machine.ts";
export { toMermaid } from "./machines/diagram.ts";
export { diskMachine } from "./machines/disk-machine.ts";
export { exportMachine } from "./machines/export-machine.ts";
export { groupMachine } from "./machines/group-machine.ts";
export { jobMachine } from "./machines/job-machine.ts";
export type { HistoryEntry, Inspection } from "./machines/machine-actor.ts";
export { transactionMachine } from "./machines/transaction-machine.ts";
export type {
  AttachOptions,
  BackupOptions,
  BitmapInfo,
  CopiedBackup,
  DiskSpec,
  FreezeObservation,
  JournalInfo,
  JobInfo,
  JobResult,
  JobWait,
  KeptBackup,
  OnOtherTarget,
  OnSpillFull,
  ResumeOptions,
  RuntimeEvent,
  RuntimeOptions,
  SpillOptions,
  TransactionAction,
  TransactionOptions,
  ViewRequest,
} from "./options.ts";
export { pullToArtefact, type PullToArtefactOptions } from "./pull-artefact.ts";
export { rebuild, type Rebuilt, type RebuildOptions } from "./rebuild.ts";
export { createRuntime, Runtime, type RuntimeInspection } from "./runtime.ts";
export type { ReopenOptions } from "./reopening.ts";
export type { View } from "./view.ts";
export type { ViewFigures } from "./view-figures.ts";
export { closedBuckets, type IoCounts, type KindCounts } from "@heirloom/engine";
export {
  inspectSidecar,
  type InspectedBitmap,
  type JournalOptions,
  type RecoveryEntry,
  type SidecarInspection,
  type SidecarLocation,
} from "@heirloom/journal";
export { type DiskHandle, GuestDisk, loadDisk, openDisk } from "@heirloom/engine";
