/**
 * The one boundary between us and drivers that others wrote. A module may throw, answer something that is no errno, or say of
 * a range what cannot be: here that becomes an errno, or the answer that errs to the safe side. So above this a node is what
 * `BlockNode` promises, nothing is thrown across, and a module's fault is its own disk's: not the thread's, which serves others.
 *
 * An answer that is no errno counts as a failure, `undefined` and promises among them: nobody knows whether it was done.
 * What was wrong is told as a warning of the process, once for each verb of a node, since an errno cannot say it.
 */
import { inspect } from "node:util";
import { BlockError } from "./block-error.ts";
import { EIO } from "./errno.ts";
import type { BlockNode, DirectFile, Errno, NodeHandle, RequestKind, StatusExtent } from "./node.ts";

const errnoMax = 4095;

export class ModuleNode implements BlockNode {
  readonly readNow: BlockNode["readNow"];
  readonly writeZeroesFast: BlockNode["writeZeroesFast"];
  readonly zeroesFrom: BlockNode["zeroesFrom"];
  readonly #node: BlockNode;
  readonly #name: string;
  readonly #told = new Set<string>();
  #length: number | undefined;

  constructor(name: string, node: BlockNode) {
    this.#name = name;
    this.#node = node;
    // Which of these a node has says what it can do.
    if (node.readNow !== undefined) this.readNow = (buffer, offset) => this.#readNow(buffer, offset);
    if (node.writeZeroesFast !== undefined)
      this.writeZeroesFast = (offset, length, unmap) => this.#writeZeroesFast(offset, length, unmap);
    if (node.zeroesFrom !== undefined) this.zeroesFrom = (offset, length) => this.#zeroesFrom(offset, length);
  }

  get direct(): DirectFile | undefined {
    return this.#node.direct;
  }

  /** @throws BlockError where it never was a length; what it was before, where it is none any more */
  length(): number {
    let length: unknown;
    try {
      length = this.#node.length();
    } catch (error) {
      length = new Thrown(error);
    }
    if (Number.isSafeInteger(length) && (length as number) >= 0) return (this.#length = length as number);
    if (this.#length === undefined) {
      const message = `driver module '${this.#name}': expected a length of 0 to 2^53-1 whole bytes, got ${inspect(length)}`;
      throw new BlockError("ERR_DRIVER_INVALID", message, { node: this.#name, cause: length });
    }
    this.#tell("length", length);
    return this.#length;
  }

  read(buffer: Uint8Array, offset: number): Errno {
    try {
      return this.#errno("read", this.#node.read(buffer, offset));
    } catch (error) {
      return this.#threw("read", error);
    }
  }

  write(buffer: Uint8Array, offset: number): Errno {
    try {
      return this.#errno("write", this.#node.write(buffer, offset));
    } catch (error) {
      return this.#threw("write", error);
    }
  }

  discard(offset: number, length: number): Errno {
    try {
      return this.#errno("discard", this.#node.discard(offset, length));
    } catch (error) {
      return this.#threw("discard", error);
    }
  }

  writeZeroes(offset: number, length: number, unmap: boolean): Errno {
    try {
      return this.#errno("writeZeroes", this.#node.writeZeroes(offset, length, unmap));
    } catch (error) {
      return this.#threw("writeZeroes", error);
    }
  }

  flush(): Errno {
    try {
      return this.#errno("flush", this.#node.flush());
    } catch (error) {
      return this.#threw("flush", error);
    }
  }

  resize(length: number): Errno {
    try {
      return this.#errno("resize", this.#node.resize(length));
    } catch (error) {
      return this.#threw("resize", error);
    }
  }

  /** An extent of no length would be asked for over and over; one that reaches too far says what nobody asked. */
  status(offset: number, length: number, extent: StatusExtent): Errno {
    let errno: Errno;
    try {
      errno = this.#errno("status", this.#node.status(offset, length, extent));
    } catch (error) {
      errno = this.#threw("status", error);
    }
    if (errno !== 0 || length === 0) return errno;
    if (!(Number.isSafeInteger(extent.length) && extent.length >= 1)) {
      this.#tell("status", `an extent of ${inspect(extent.length)} bytes`);
      extent.length = length;
      extent.zero = false;
      extent.allocated = true;
    } else if (extent.length > length) extent.length = length;
    return 0;
  }

  /** Whoever waited for what is no time would wait for ever. */
  admit(kind: RequestKind, length: number): number {
    let wait: unknown;
    try {
      wait = this.#node.admit(kind, length);
    } catch (error) {
      wait = new Thrown(error);
    }
    if (typeof wait === "number" && Number.isFinite(wait)) return wait;
    this.#tell("admit", wait);
    return 0;
  }

  #readNow(buffer: Uint8Array, offset: number): Errno {
    try {
      return this.#errno("readNow", this.#node.readNow?.(buffer, offset));
    } catch (error) {
      return this.#threw("readNow", error);
    }
  }

  #writeZeroesFast(offset: number, length: number, unmap: boolean): Errno {
    try {
      return this.#errno("writeZeroesFast", this.#node.writeZeroesFast?.(offset, length, unmap));
    } catch (error) {
      return this.#threw("writeZeroesFast", error);
    }
  }

  #zeroesFrom(offset: number, length: number): number {
    let bytes: unknown;
    try {
      bytes = this.#node.zeroesFrom?.(offset, length);
    } catch (error) {
      bytes = new Thrown(error);
    }
    if (Number.isSafeInteger(bytes) && (bytes as number) >= 0) return Math.min(bytes as number, length);
    this.#tell("zeroesFrom", bytes);
    return 0;
  }

  #errno(verb: string, answer: unknown): Errno {
    if (answer === 0) return 0;
    if (Number.isInteger(answer) && (answer as number) > 0 && (answer as number) <= errnoMax) return answer as number;
    this.#tell(verb, answer);
    return EIO;
  }

  /** An error of Node's file system carries the errno, negative. */
  #threw(verb: string, error: unknown): Errno {
    this.#tell(verb, new Thrown(error));
    const errno = Math.abs(Number((error as { errno?: unknown } | null | undefined)?.errno));
    return Number.isInteger(errno) && errno > 0 && errno <= errnoMax ? errno : EIO;
  }

  #tell(verb: string, what: unknown): void {
    if (this.#told.has(verb)) return;
    this.#told.add(verb);
    const found = what instanceof Thrown ? `it threw ${inspect(what.error)}` : `not ${inspect(what)}`;
    const text = `driver module '${this.#name}': ${verb} must answer as BlockNode says and throw nothing; ${found}`;
    process.emitWarning(text, { code: "HEIRLOOM_DRIVER" });
  }
}

/** What was thrown, which may be anything: a number that was thrown is no answer. */
class Thrown {
  readonly error: unknown;
  constructor(error: unknown) {
    this.error = error;
  }
}

/** What a module's `open` gave, before anybody uses it. @throws BlockError that names what was expected */
export function checkModuleHandle(name: string, handle: unknown): void {
  const wrong = (expected: string): never => {
    const message = `open node: the driver module '${name}' must return a handle with ${expected}, not ${inspect(handle, { depth: 1 })}`;
    throw new BlockError("ERR_DRIVER_INVALID", message, { node: name });
  };
  if (typeof handle !== "object" || handle === null) return wrong("driver, alignment, identity and the rest");
  const { driver, readOnly, alignment, clusterSize, identity, children } = handle as Partial<NodeHandle>;
  if (driver !== name) wrong("the URL that it was opened by as its driver");
  if (typeof readOnly !== "boolean") wrong("a readOnly of true or false");
  if (!isPowerOfTwo(alignment)) wrong("an alignment that is a power of two");
  if (clusterSize !== 0 && !isPowerOfTwo(clusterSize)) wrong("a clusterSize that is 0 or a power of two");
  if (typeof identity !== "string" || identity === "") wrong("an identity that is a string");
  if (!Array.isArray(children)) wrong("a list of children");
}

function isPowerOfTwo(value: number | undefined): boolean {
  return Number.isSafeInteger(value) && value !== undefined && value >= 1 && Number.isInteger(Math.log2(value));
}
