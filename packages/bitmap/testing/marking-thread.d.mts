export function rangesOf(
  seed: number,
  length: number,
  granularity: number,
): Generator<{ offset: number; length: number }, never, undefined>;
