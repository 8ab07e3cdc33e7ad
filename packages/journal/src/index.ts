export {
  inspectSidecar,
  type InspectedBitmap,
  type SidecarInspection,
  type SidecarLocation,
} from "./inspect-sidecar.ts";
export {
  boundDefault,
  DiskJournal,
  guardModule,
  type JournalOptions,
  type JournalPlace,
  type RecoveredBitmap,
} from "./disk-journal.ts";
export { identify, spillName } from "./identity.ts";
export type { JobRecords, RecoveredJob } from "./kept-jobs.ts";
export type { Directory, ImageIdentity, LayerRole, RecoveryEntry, StopKind } from "./directory.ts";
export type { Journal, KeptBitmap, KeptJob, KeptLayer } from "./journal.ts";
export { keptGranulesMax } from "./layout.ts";
export { JournalError, type JournalErrorCode } from "./journal-error.ts";
