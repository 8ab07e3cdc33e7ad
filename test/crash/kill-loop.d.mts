export function hasFio(): boolean;
export function killLoop(job: {
  readonly rounds: number;
  readonly seed: string;
  readonly fio: boolean;
  readonly report?: (line: string) => void;
}): Promise<{
  readonly rounds: number;
  readonly kills: number;
  readonly inRecovery: number;
  readonly backups: number;
  readonly attachMsMax: number;
}>;
