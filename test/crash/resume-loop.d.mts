export function resumeLoop(job: {
  rounds: number;
  seed: string;
  report?: (line: string) => void;
}): Promise<{ rounds: number; kills: number; resumed: number; again: number }>;
