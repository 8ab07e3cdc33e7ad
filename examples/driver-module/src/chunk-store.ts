/**
 * A driver module: a deduplicating store. A disk is an index, a file of 32 bytes a chunk; a chunk is a file named by the
 * SHA-256 of its bytes, stored once however many disks and backups contain it. A hash of zeroes is a chunk of zeroes.
 *
 * A new index may begin as a copy of another one (`base`). An incremental backup into it then costs what changed, and
 * is a whole disk all the same: each point in time can be read by itself, and forgotten by itself.
 *
 * The verbs run on several threads at once. They share nothing but the files: requests are whole chunks (`alignment`), no
 * two threads write one chunk at a time, and chunk files appear by rename.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { threadId } from "node:worker_threads";
import { BlockError, type BlockNode, type Driver, EIO, type Errno, isZero } from "@heirloom/block";

export const chunkBytes: number = 64 * 1024;
const hashBytes = 32;

interface StoreState {
  readonly directory: string;
  readonly index: string;
  readonly length: number;
}

export const driver: Driver = {
  options: {
    directory: { type: "string", required: true, doc: "where chunks and indexes are" },
    index: { type: "string", required: true, doc: "name of the index to open, or to make" },
    length: { type: "integer", min: 0, doc: "bytes; makes a new index" },
    base: { type: "string", doc: "the index that a new one begins as a copy of" },
    readOnly: { type: "boolean", default: false, doc: "refuse changes" },
  },

  // On a helper thread. It may block, and throws for people.
  open(options) {
    const { directory, index, base, readOnly } = options as {
      directory: string;
      index: string;
      base?: string;
      readOnly: boolean;
    };
    const path = join(directory, index);
    fs.mkdirSync(join(directory, "chunks"), { recursive: true });
    if (options.length !== undefined) {
      const length = options.length as number;
      if (length % chunkBytes !== 0) throw refusal(index, `'length' must be a multiple of ${chunkBytes}`);
      if (fs.existsSync(path)) throw refusal(index, "the index exists; expected a new name");
      if (base === undefined) fs.writeFileSync(path, "");
      else fs.copyFileSync(join(directory, base), path);
      fs.truncateSync(path, (length / chunkBytes) * hashBytes);
    }
    if (!fs.existsSync(path)) throw refusal(index, "there is no such index; expected a 'length' to make one");
    const state: StoreState = { directory, index: path, length: (fs.statSync(path).size / hashBytes) * chunkBytes };
    return {
      driver: import.meta.url, // by which other threads find this module
      readOnly,
      alignment: chunkBytes,
      clusterSize: chunkBytes, // a job copies in units that are whole chunks
      identity: `chunk-store:${path}`,
      state,
      children: [],
    };
  },

  // On each thread that uses the node.
  connect: (handle) => new ChunkNode(handle.state as StoreState),

  close: () => {}, // nothing is kept open between two requests
};

class ChunkNode implements BlockNode {
  readonly direct = undefined;
  readonly #state: StoreState;
  readonly #hash = new Uint8Array(hashBytes);

  constructor(state: StoreState) {
    this.#state = state;
  }

  length(): number {
    return this.#state.length;
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return this.#eachChunk(buffer.length, offset, (index, chunk, at) => {
      const target = buffer.subarray(at, at + chunkBytes);
      fs.readSync(index, this.#hash, 0, hashBytes, chunk * hashBytes);
      if (isZero(this.#hash)) target.fill(0);
      else target.set(fs.readFileSync(this.#path(this.#hash)));
    });
  }

  write(buffer: Uint8Array, offset: number): Errno {
    return this.#eachChunk(buffer.length, offset, (index, chunk, at) => {
      const bytes = buffer.subarray(at, at + chunkBytes);
      const hash = isZero(bytes) ? new Uint8Array(hashBytes) : this.#store(bytes);
      fs.writeSync(index, hash, 0, hashBytes, chunk * hashBytes);
    });
  }

  discard(offset: number, length: number): Errno {
    return this.writeZeroes(offset, length);
  }

  writeZeroes(offset: number, length: number): Errno {
    return this.#eachChunk(length, offset, (index, chunk) => {
      fs.writeSync(index, new Uint8Array(hashBytes), 0, hashBytes, chunk * hashBytes);
    });
  }

  flush(): Errno {
    return attempt(() => {
      for (const path of [this.#state.index, this.#state.directory, join(this.#state.directory, "chunks")]) {
        const fd = fs.openSync(path, "r");
        fs.fsyncSync(fd);
        fs.closeSync(fd);
      }
    });
  }

  status(_offset: number, length: number, extent: { length: number; zero: boolean; allocated: boolean }): Errno {
    Object.assign(extent, { length, zero: false, allocated: true });
    return 0;
  }

  resize(): Errno {
    return EIO;
  }

  admit(): number {
    return 0;
  }

  /** Stores a chunk unless it is there. @returns its hash */
  #store(bytes: Uint8Array): Uint8Array {
    const hash = new Uint8Array(createHash("sha256").update(bytes).digest());
    const path = this.#path(hash);
    if (fs.existsSync(path)) return hash;
    const draft = `${path}.${process.pid}.${threadId}`;
    fs.writeFileSync(draft, bytes, { flush: true }); // on stable storage before an index names it
    fs.renameSync(draft, path);
    return hash;
  }

  #path(hash: Uint8Array): string {
    return join(this.#state.directory, "chunks", Buffer.from(hash).toString("hex"));
  }

  #eachChunk(length: number, offset: number, visit: (index: number, chunk: number, at: number) => void): Errno {
    return attempt(() => {
      const index = fs.openSync(this.#state.index, "r+");
      try {
        for (let at = 0; at < length; at += chunkBytes) visit(index, (offset + at) / chunkBytes, at);
      } finally {
        fs.closeSync(index);
      }
    });
  }
}

/** Verbs answer errno values and never throw. */
function attempt(work: () => void): Errno {
  try {
    work();
    return 0;
  } catch (error) {
    const { errno } = error as { errno?: unknown };
    return typeof errno === "number" ? Math.abs(errno) : EIO;
  }
}

function refusal(index: string, why: string): BlockError {
  return new BlockError("ERR_NODE_OPTION", `open chunk store index '${index}': ${why}`, { node: index });
}
