export function runSequences(options: {
  readonly seed: number;
  readonly sequences: number;
  readonly seconds: number;
  readonly keepGoing?: boolean;
  readonly signal?: AbortSignal;
  readonly report: (line: string) => void;
}): Promise<{
  readonly sequences: number;
  readonly steps: number;
  readonly differences: number;
  /** Sequences that QEMU did not survive. */
  readonly qemuEnded: number;
  readonly perSecond: number;
  readonly oursMiB: number;
}>;
