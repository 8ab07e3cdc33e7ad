/** The bitmaps that a disk's sidecar has kept: they record again before anybody writes the disk. */
import { DiskJournal, JournalError, type RecoveredBitmap } from "@heirloom/journal";
import { type BitmapState, nextOrder } from "./bitmap-memory.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DiskState } from "./disk-state.ts";
import { Draft } from "./draft.ts";
import { HeirloomError } from "./errors.ts";
import type { JobState } from "./job-state.ts";
import { Staged } from "./keeping.ts";
import { bitmapMachine } from "./machines/bitmap-machine.ts";
import { MachineActor } from "./machines/machine-actor.ts";
import { recoverJob } from "./recovering-job.ts";

/**
 * Attaches what is kept, if anything is. Nobody writes the disk yet.
 * @throws HeirloomError with the journal's code: a sidecar that cannot be read, or that somebody else has, is never passed over
 */
export async function recoverBitmaps(coordinator: Coordinator, disk: DiskState): Promise<void> {
  const { image } = disk;
  if (image === undefined) return;
  const place = coordinator.keeping.place(disk, image);
  try {
    const look = await DiskJournal.look(place).catch((error: unknown) => {
      // A device without a lasting name has no sidecar; asking for one is refused when it is asked for.
      if (error instanceof JournalError && error.code === "ERR_JOURNAL_PLACE") return undefined;
      throw error;
    });
    if (look?.forgotten !== undefined)
      throw new JournalError("ERR_JOURNAL_PLACE", unusedText(image.filename, look.forgotten));
    if (look === undefined || !look.exists) return;
    const { journal, bitmaps } = await DiskJournal.recover(place, look);
    const twin = bitmaps.find(({ name }) => disk.bitmaps.has(name)); // of a disk that is reopened
    if (twin !== undefined) {
      await journal.close();
      throw new HeirloomError("ERR_BITMAP_EXISTS", "reopen", `Bitmap already exists: ${twin.name}`);
    }
    disk.journal = journal;
    await record(coordinator, disk, bitmaps);
  } catch (error) {
    if (!(error instanceof JournalError)) throw error;
    throw new HeirloomError(error.code, "attach", error.message, { cause: error });
  }
}

/**
 * Whoever attaches an image without its journal would change it behind the back of bitmaps that are kept for it.
 * @throws HeirloomError
 */
export async function refuseKept({ engine }: Coordinator, filename: string): Promise<void> {
  const path = await DiskJournal.find(engine, filename);
  if (path !== undefined) throw new HeirloomError("ERR_JOURNAL_PLACE", "attach", unusedText(filename, path));
}

function unusedText(filename: string, path: string): string {
  return `'${filename}' has persistent bitmaps in '${path}', which would become wrong without a word: attach it with that journal, or remove the file and begin with a full backup`;
}

async function record(coordinator: Coordinator, disk: DiskState, recovered: readonly RecoveredBitmap[]): Promise<void> {
  const staged = new Staged();
  const draft = new Draft(
    coordinator.nextCommand(),
    "attach",
    new Map([[disk.name, disk]]),
    (length, granularity) => coordinator.engine.recorder(length, granularity),
    staged,
  );
  const jobs: JobState[] = [];
  await coordinator.engine.transitions.run({
    name: "attach",
    stacks: [disk.layer.stack],
    prepare: () => {
      for (const bitmap of recovered) {
        const state = stateOf(coordinator, disk, bitmap);
        draft.add(disk, state);
        if (bitmap.frozen === undefined) continue;
        staged.put(disk.name, bitmap.name, bitmap.frozen.successor); // the heir that it had
        const job = recoverJob(coordinator, draft, disk, state, bitmap);
        if (job !== undefined) jobs.push(job);
      }
      return { tables: draft.tables(), committed: () => draft.commit() };
    },
  });
  coordinator.jobs.beginAgain(jobs);
}

function stateOf(coordinator: Coordinator, disk: DiskState, recovered: RecoveredBitmap): BitmapState {
  const { name, granularity, recording, inconsistent, recorder, story } = recovered;
  const actor = new MachineActor(
    `bitmap ${disk.name}/${name}`,
    bitmapMachine,
    { node: disk.name, name, recording, persistent: true, ...(inconsistent === undefined ? {} : { inconsistent }) },
    { now: coordinator.now, origin: story },
  );
  const bits = recorder ?? coordinator.engine.recorder(disk.layer.table.length, granularity);
  const records = recording && inconsistent === undefined;
  return {
    name,
    disk: disk.name,
    actor,
    memory: { bits, order: nextOrder(), successor: undefined, successorOrder: 0, records, cutFrom: 0 },
  };
}
