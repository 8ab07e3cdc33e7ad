/**
 * blkdebug's rules as rules of our fault driver. QEMU's events are announced by its drivers; those that a raw node, or
 * the block layer itself, announces are kinds of requests here, and the others never happen (there is no qcow2).
 */
import { errnoName, type FaultRule, type RequestKind } from "@heirloom/block";
import type { BlockdevOptions } from "../generated/qmp-types.ts";
import { QmpError } from "../qmp-error.ts";

type Options = Extract<BlockdevOptions, { driver: "blkdebug" }>;

const sectorSize = 512;
const errnoIo = 5;

const kindOfEvent: Readonly<Record<string, RequestKind>> = {
  read_aio: "read",
  write_aio: "write",
  pwritev: "write",
  pwritev_zero: "write-zeroes",
  flush_to_os: "flush",
  flush_to_disk: "flush",
};
const allKinds: readonly RequestKind[] = ["read", "write", "write-zeroes", "discard", "flush"];
const kindOfIo: Readonly<Record<string, RequestKind>> = {
  read: "read",
  write: "write",
  "write-zeroes": "write-zeroes",
  discard: "discard",
  flush: "flush",
  "block-status": "status",
};

/** @throws QmpError */
export function faultRules(options: Options): FaultRule[] {
  if (options.config !== undefined)
    throw new QmpError("blkdebug: a config file is not supported; give the rules as options");
  if ((options["set-state"] ?? []).length > 0) throw new QmpError("blkdebug: set-state is not supported");
  return (options["inject-error"] ?? []).flatMap((rule) => {
    if (rule.state !== undefined && rule.state !== 0) throw new QmpError("blkdebug: states are not supported");
    const error = errnoName(rule.errno ?? errnoIo);
    const range = rule.sector === undefined ? {} : { offset: rule.sector * sectorSize, length: sectorSize };
    return kindsOf(rule.event, rule.iotype).map((kind): FaultRule => ({
      kind,
      ...range,
      ...(rule.once === true ? { once: true } : { always: true }),
      action: { error },
    }));
  });
}

function kindsOf(event: string, iotype: string | undefined): readonly RequestKind[] {
  const wanted = iotype === undefined ? allKinds : [kindOfIo[iotype]];
  if (event === "none") return wanted;
  return Object.hasOwn(kindOfEvent, event) && wanted.includes(kindOfEvent[event]) ? [kindOfEvent[event]] : [];
}
