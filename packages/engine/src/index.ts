export { type ClosedTimes, closedBuckets } from "./closed-times.ts";
export { Engine, type DeathListener, type EngineOptions, type ExitListener } from "./engine.ts";
export { EngineError, type EngineErrorCode } from "./engine-error.ts";
export { EngineView, type EngineViewOptions, type MoverOptions, type ThreadsEnd } from "./engine-view.ts";
export { foldUncopied } from "./folding.ts";
export type { IoCounts, KindCounts } from "./io-counters.ts";
export type { OpenedNode } from "./helper-tasks.ts";
export { type FoundSpill, type KeptSpill, keptSlotsFirst } from "./kept-spill.ts";
export { requestBytesMax } from "./io-client.ts";
export {
  operationDiscard,
  operationFlush,
  operationRead,
  operationReadView,
  operationWrite,
  operationWriteZeroes,
} from "./io-ring.ts";
export type { ErrorPolicy, MoverError } from "./mover-types.ts";
export { DiskIo } from "./disk-io.ts";
export { type DiskHandle, GuestDisk, loadDisk, openDisk } from "./open-disk.ts";
export { type LongTask, NoThread, ThreadDied, type ThreadEvent } from "./pool.ts";
export { type KeptRecorder, Recorder } from "./recorder.ts";
export type { CopiedRecord, GuardContext, GuardModule, WriteGuard } from "./write-guard.ts";
export { type PostedDisk, type PostedView, type Serve, ServiceThread } from "./service.ts";
export type { SpillFileOptions } from "./spill-keeper.ts";
export type { Layer, LayerTable } from "./stack.ts";
export { type PreparedTransition, type TransitionOutcome, TransitionTimeout } from "./transition.ts";
export type { BreakReason } from "./view-layout.ts";
export { viewClusterSize, viewRefusal } from "./view-memory.ts";
export { copiedRanges } from "./view-scan.ts";
export { ViewReader } from "./view-reader.ts";
