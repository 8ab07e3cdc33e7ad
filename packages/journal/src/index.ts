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
export type { Directory, ImageIdentity, LayerRole, RecoveryEntry, StopKind } from "./directory.ts";
export type { Journal, KeptBitmap, KeptLayer } from "./journal.ts";
export { keptGranulesMax } from "./layout.ts";
export { JournalError, type JournalErrorCode } from "./journal-error.ts";
