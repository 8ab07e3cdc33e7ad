/**
 * Runs code with an `Atomics` that calls `after` behind each operation on shared memory: to look between two of them,
 * to let "another thread" do something there, or to die there by throwing.
 */
export function withHookedAtomics(after: (operation: number) => void, run: () => void): void {
  const real = globalThis.Atomics;
  let operation = 0;
  let inside = false;
  const hooked = new Proxy(real, {
    get(target, name): unknown {
      const method = Reflect.get(target, name) as unknown;
      if (typeof method !== "function") return method;
      return (...parameters: unknown[]): unknown => {
        const result = Reflect.apply(method, target, parameters) as unknown;
        if (!inside) {
          inside = true;
          try {
            after(operation++);
          } finally {
            inside = false;
          }
        }
        return result;
      };
    },
  });
  globalThis.Atomics = hooked;
  try {
    run();
  } finally {
    globalThis.Atomics = real;
  }
}
