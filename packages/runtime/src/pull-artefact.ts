/**
 * A pull backup into an artefact: what an NBD export's dirty bitmap says (anybody's export: QEMU's, ours), or all of it, in
 * the same form as a backup of an attached disk, so that `rebuild` takes both.
 *
 * The export must stand still: a point in time (`server.add({ view })`, or QEMU's fleecing), or a disk that nobody writes.
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, open, rm } from "node:fs/promises";
import { NbdClient, type NbdUri, pull, type PullOptions, type PullSink } from "@heirloom/nbd";
import { createRaw, writeMap } from "./artefact.ts";
import { type Artefact, type ArtefactExtent, type ArtefactMap, rawPathOf } from "./artefact-map.ts";
import { HeirloomError } from "./errors.ts";

export interface PullToArtefactOptions extends Pick<PullOptions, "onProgress" | "signal" | "connections"> {
  /** The export, as a URI. */
  readonly source: string | NbdUri;
  /** Name of its dirty bitmap; without one all of it is copied. */
  readonly bitmap?: string;
  /** Of the map, ending in `.json`; the data goes beside it, into `.raw`. Neither may exist. */
  readonly path: string;
  /** With a bitmap: the artefact of its last success, or its id. */
  readonly basedOn?: Artefact | string;
  /** For people. */
  readonly why?: string;
}

/** No cluster is known of it: extents are as the export tells them. */
const clusterSize = 512;

/**
 * @throws HeirloomError ERR_ARTEFACT_NAME, ERR_ARTEFACT_BASE, ERR_ARTEFACT_WRITE; NbdError; what it had written is removed then
 * @example
 * const full = await pullToArtefact({ source: "nbd+unix:///view?socket=/run/h.sock", path: "mon.json" });
 * await pullToArtefact({ source, bitmap: "daily", path: "tue.json", basedOn: full });
 */
export async function pullToArtefact(options: PullToArtefactOptions): Promise<Artefact> {
  const { source, bitmap, path, basedOn, why, ...rest } = options;
  refuse(bitmap, basedOn);
  const rawPath = rawPathOf(path);
  const length = await lengthOf(source, options.signal);
  const time = new Date().toISOString();
  await createRaw(path, rawPath, length);
  try {
    const file = await open(rawPath, "r+");
    const sink = new SparseFile(file);
    try {
      const pulled = await pull({ ...rest, source, target: sink, ...(bitmap === undefined ? {} : { bitmap }) });
      if (pulled.length !== length) {
        const desc = `expected an export of ${length} bytes, and it has ${pulled.length} now`;
        throw new HeirloomError("ERR_ARTEFACT_SOURCE", "pull to an artefact", desc);
      }
    } finally {
      await file.close();
    }
    const map: ArtefactMap = {
      id: randomUUID(),
      basedOn: basedOn === undefined ? null : typeof basedOn === "string" ? basedOn : basedOn.id,
      length,
      clusterSize,
      time,
      sync: bitmap === undefined ? "full" : "incremental",
      bitmap: bitmap ?? null,
      why: why ?? (bitmap === undefined ? "all of the export" : `what the export's bitmap ${bitmap} says changed`),
      complete: true,
      extents: sink.extents(),
    };
    await writeMap(path, map);
    return { ...map, path, rawPath };
  } catch (error) {
    await rm(rawPath, { force: true });
    throw error;
  }
}

function refuse(bitmap: string | undefined, basedOn: Artefact | string | undefined): void {
  if ((bitmap === undefined) === (basedOn === undefined)) return;
  const desc =
    bitmap === undefined
      ? "expected no 'basedOn' without a bitmap: a full copy builds on nothing"
      : "expected 'basedOn' with a bitmap: the artefact of its last success";
  throw new HeirloomError("ERR_ARTEFACT_BASE", "pull to an artefact", desc);
}

async function lengthOf(source: string | NbdUri, signal: AbortSignal | undefined): Promise<number> {
  await using client = await NbdClient.connect(source, signal === undefined ? {} : { signal });
  return client.export.length;
}

/** A new sparse file, with what was put into it. */
class SparseFile implements PullSink {
  readonly #file: FileHandle;
  readonly #extents: ArtefactExtent[] = [];

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < buffer.length;) {
      const { bytesWritten } = await this.#file.write(buffer, done, buffer.length - done, offset + done);
      done += bytesWritten;
    }
    this.#extents.push({ offset, length: buffer.length, kind: "data" });
  }
  /** Holes as they are. */
  writeZeroes(offset: number, length: number): Promise<void> {
    this.#extents.push({ offset, length, kind: "zero" });
    return Promise.resolve();
  }
  async flush(): Promise<void> {
    await this.#file.sync();
  }

  /** In order; neighbours of one kind are one. */
  extents(): ArtefactExtent[] {
    const joined: ArtefactExtent[] = [];
    for (const extent of this.#extents.toSorted((a, b) => a.offset - b.offset)) {
      const last = joined.at(-1);
      if (last?.kind === extent.kind && last.offset + last.length === extent.offset) {
        joined[joined.length - 1] = { ...last, length: last.length + extent.length };
      } else joined.push(extent);
    }
    return joined;
  }
}
