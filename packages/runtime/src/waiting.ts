/** Waiting for what may not come. */

export function withResolvers<Value>(): { promise: Promise<Value>; resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => {};
  const promise = new Promise<Value>((fulfil) => (resolve = fulfil));
  return { promise, resolve };
}

/**
 * Waits for the work, but no longer than that. The timer goes with the wait: one that ran on would keep everything that
 * waited alive until it is due, some 30 ended jobs where jobs are short.
 * @param options.keepsAlive whether the process stays alive for the timer's sake
 */
export async function within(
  milliseconds: number,
  work: Promise<unknown>,
  { keepsAlive = true }: { readonly keepsAlive?: boolean } = {},
): Promise<void> {
  const { promise: late, resolve } = withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  if (!keepsAlive) timer.unref();
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
