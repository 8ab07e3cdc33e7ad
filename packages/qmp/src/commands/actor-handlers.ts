import type { Inspection, JobInspection, Runtime } from "@heirloom/runtime";
import type { HeirloomActor } from "../generated/qmp-types.ts";
import type { Handlers } from "../server/command-set.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<Handlers, "x-heirloom-query-actors">;

export function actorHandlers({ runtime }: CommandContext): Family {
  return { "x-heirloom-query-actors": () => actorsOf(runtime) };
}

function actorsOf(runtime: Runtime): HeirloomActor[] {
  const { disks, jobs, endedJobs, groups, exports, transactions, pool } = runtime.inspect();
  return [
    ...disks.flatMap((disk) => {
      const node = nameOf(disk, "disk ");
      return [
        actor("disk", node, disk, false, { node }),
        ...disk.bitmaps.map((bitmap) => actor("bitmap", nameOf(bitmap, `bitmap ${node}/`), bitmap, false, { node })),
      ];
    }),
    ...endedJobs.map((job) => jobActor(job, true)),
    ...jobs.map((job) => jobActor(job, false)),
    ...groups.map((group) => actor("group", nameOf(group, "group "), group, false)),
    ...exports.map((exported) => actor("export", nameOf(exported, "export "), exported, false)),
    ...transactions.map((one) => actor("transaction", nameOf(one, "transaction "), one, false)),
    actor("pool", "pool", pool, false),
  ];
}

function jobActor(job: JobInspection, ended: boolean): HeirloomActor {
  const { disk: node, target, because, bitmap, bitmapMode, sync, waits } = job;
  return actor("job", job.job, job, ended, {
    node,
    target,
    because,
    sync,
    ...(bitmap === null ? {} : { bitmap }),
    ...(bitmapMode === null ? {} : { "bitmap-mode": bitmapMode }),
    ...(waits === null ? {} : { waits: { target: waits.target, "frozen-at": waits.frozenAt, until: waits.until } }),
  });
}

function actor(
  kind: HeirloomActor["kind"],
  name: string,
  { state, context, history }: Inspection<unknown>,
  ended: boolean,
  more: Partial<HeirloomActor> = {},
): HeirloomActor {
  return { kind, name, state, ended, ...more, context, history };
}

function nameOf({ id }: Inspection<unknown>, prefix: string): string {
  return id.startsWith(prefix) ? id.slice(prefix.length) : id;
}
