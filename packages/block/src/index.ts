export type {
  BlockNode,
  CloseContext,
  ConnectContext,
  DirectFile,
  Driver,
  Errno,
  NodeHandle,
  NodeSpec,
  OpenContext,
  RequestKind,
  StatusExtent,
} from "./node.ts";
export {
  builtInDrivers,
  closeNode,
  connectNode,
  loadDrivers,
  noteReopened,
  openNode,
  reopenNode,
} from "./open-node.ts";
export { BlockError } from "./block-error.ts";
export type { BlockErrorCode, BlockErrorDetails, BlockErrorFields } from "./block-error.ts";
export * from "./errno.ts";
export { expectation, optionError, readOptions } from "./options.ts";
export type { OptionRule, OptionTable } from "./options.ts";
export { assertRequest, checkRequest, isChange } from "./request-check.ts";
export type { RequestLimits } from "./request-check.ts";
export { isZero } from "./zero-test.ts";
export { loadSharedInteger, SHARED_INTEGER_WORDS, storeSharedInteger } from "./shared-integer.ts";
export { changeImageLock, lockImage } from "./image-lock.ts";
export type { ImageUse } from "./image-lock.ts";
export { lockNode, unlockNode } from "./drivers/file-locking.ts";
export { armFault, disarmFault, faultCount, faultReached, releaseHang } from "./drivers/fault-control.ts";
export { blkdebugEvents } from "./drivers/blkdebug-rule.ts";
export type { FaultRule } from "./drivers/fault-rule.ts";
export { setThrottle } from "./drivers/throttle.ts";
export type { ThrottleLimits } from "./drivers/throttle.ts";
export {
  type GroupLimit,
  GroupMember,
  joinGroup,
  makeThrottleGroup,
  setGroupLimits,
} from "./drivers/throttle-group.ts";
export * from "./libc.ts";
export { loadSystemCalls } from "./load-system-calls.ts";
export { ReadRing } from "./read-ring.ts";
export * from "./sockets.ts";
