/**
 * blkdebug's options as our driver of that name takes them. Events that only QEMU's formats announce never happen here, and
 * rules for them are left out.
 */
import { blkdebugEvents, errnoName, type NodeSpec, type RequestKind } from "@heirloom/block";
import type { BlockdevOptions } from "../generated/qmp-types.ts";
import { QmpError } from "../qmp-error.ts";

type Options = Extract<BlockdevOptions, { driver: "blkdebug" }>;

const sectorSize = 512;
const errnoIo = 5;

const announced: ReadonlySet<string> = new Set(blkdebugEvents);
const kindOfIo: Readonly<Record<string, RequestKind>> = {
  read: "read",
  write: "write",
  "write-zeroes": "write-zeroes",
  discard: "discard",
  flush: "flush",
  "block-status": "status",
};

/** What the node is opened with, but for what stands under it. @throws QmpError */
export function blkdebugSpec(options: Options): NodeSpec {
  if (options.config !== undefined)
    throw new QmpError("blkdebug: a config file is not supported; give the rules as options");
  return {
    driver: "blkdebug",
    injectError: (options["inject-error"] ?? [])
      .filter(({ event }) => announced.has(event))
      .map(({ event, state = 0, iotype, errno = errnoIo, sector, once = false }) => ({
        event,
        state,
        error: errnoName(errno),
        once,
        ...(iotype === undefined ? {} : { kind: kindOfIo[iotype] }),
        ...(sector === undefined ? {} : { offset: sector * sectorSize }),
      })),
    setState: (options["set-state"] ?? [])
      .filter(({ event }) => announced.has(event))
      .map(({ event, state = 0, new_state: newState }) => ({ event, state, newState })),
  };
}
