/** A backup on its way to the coordinator: the request in QEMU's words, the open target, and what only we have. */
import type { MoverOptions, SpillFileOptions } from "@heirloom/engine";
import type { JobTarget } from "./job-state.ts";
import type { CopiedBackup, KeptBackup } from "./options.ts";
import type { Resumable } from "./resumable.ts";
import type { BackupRequest } from "./validation/backup-request.ts";

export interface PreparedBackup {
  readonly request: BackupRequest & { readonly jobId: string };
  readonly target: JobTarget;
  readonly movers: Pick<MoverOptions, "targetIsZero" | "threads" | "detectZeroes" | "discardSource" | "yieldMs">;
  readonly guestDelayMaxMs: number;
  readonly breakGuestWrite: boolean;
  readonly waitForTarget: boolean;
  readonly readable: boolean;
  readonly spillMemory: number;
  readonly spillFile: number;
  readonly spill: SpillFileOptions;
  /** It goes on after a restart. */
  readonly resumable: Resumable | undefined;
  readonly onCopied: ((copied: CopiedBackup) => Promise<void>) | undefined;
  readonly onKept: ((kept: KeptBackup) => Promise<void>) | undefined;
}
