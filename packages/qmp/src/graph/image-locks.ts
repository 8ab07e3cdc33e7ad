/**
 * Locks of image files, taken when a node is used and not when it is there, as QEMU does: between two jobs a target can be
 * looked at by other programs, and a node that nobody uses keeps nobody out.
 *
 * What a node's file is locked for follows from who uses the node and those that stand on it: a writer keeps other writers
 * out (QEMU's exports do not, and would miss what those write), a backup keeps writers away from its source, and a
 * read-only export lets anybody in. A lock is taken before whoever needs it begins, and given back when a look finds that
 * nobody does any more.
 */
import type { ImageUse } from "@heirloom/block";
import type { Runtime } from "@heirloom/runtime";
import type { GraphNode } from "./graph-node.ts";

const rank: Readonly<Record<ImageUse, number>> = { none: 0, watch: 1, read: 2, write: 3 };

export class ImageLocks {
  readonly #runtime: Runtime;
  readonly #nodes: () => readonly GraphNode[];
  /** Nodes of images, and what they are locked for; one that is not there has no lock of this kind. */
  readonly #held = new Map<GraphNode, ImageUse>();

  constructor(runtime: Runtime, nodes: () => readonly GraphNode[]) {
    this.#runtime = runtime;
    this.#nodes = nodes;
  }

  /** A node has come that was opened without a lock. */
  add(node: GraphNode): void {
    if (locksWhenUsed(node)) this.#held.set(node, "none");
  }
  remove(node: GraphNode): void {
    this.#held.delete(node);
  }

  /** Before the node is used so. @throws BlockError */
  async take(node: GraphNode, use: ImageUse): Promise<void> {
    const image = imageUnder(node);
    const held = this.#held.get(image);
    if (held === undefined || rank[use] <= rank[held]) return;
    await image.disk.lockImage(use);
    this.#held.set(image, use);
  }

  /** Gives back what nobody needs any more. */
  async settle(): Promise<void> {
    for (const [image, held] of this.#held) {
      const use = this.useOf(image);
      if (rank[use] >= rank[held]) continue;
      await image.disk.lockImage(use);
      this.#held.set(image, use);
    }
  }

  /**
   * A job has ended: gives back what it needed, now or when its threads have let go.
   *
   * @param exclusive keeps other commands away meanwhile
   */
  afterJob(exclusive: (work: () => Promise<void>) => Promise<void>): void {
    const settle = (): Promise<void> => exclusive(() => this.settle()).catch(() => {}); // the runtime has closed meanwhile
    void settle();
    for (const { disk } of this.#nodes()) if (disk.lettingGo) void disk.released().then(settle);
  }

  /** What is done with a node, and with those that stand on it. */
  useOf(node: GraphNode): ImageUse {
    const uses = this.#nodes().flatMap((one): ImageUse[] => {
      const [, target] = one.options.driver === "copy-before-write" && one.job === undefined ? one.children : [];
      return [
        ...(isOn(one, node) ? [this.#ownUse(one)] : []),
        ...(target !== undefined && isOn(target, node) ? (["write"] as const) : []),
      ];
    });
    return uses.reduce((most, use) => (rank[use] > rank[most] ? use : most), "none");
  }

  #ownUse(node: GraphNode): ImageUse {
    const { jobs, views, exports } = node.disk.users;
    if (node.disk.lettingGo) return "write";
    const isTarget = jobs.some((id) =>
      this.#runtime.jobs.some((job) => job.id === id && job.target.name === node.name),
    );
    if (isTarget || node.writers.size > 0) return "write";
    if (jobs.length + views.length > 0) return "read";
    return exports.length > 0 ? "watch" : "none";
  }
}

/** A node of a file that is to be locked, and was opened without. */
export function locksWhenUsed({ options }: Pick<GraphNode, "options">): boolean {
  if (options.driver !== "file" && options.driver !== "host_device") return false;
  return options.locking !== "off" && options["force-share"] !== true;
}

function imageUnder(node: GraphNode): GraphNode {
  const [child] = node.children;
  return child === undefined ? node : imageUnder(child);
}

function isOn(node: GraphNode, under: GraphNode): boolean {
  const [child] = node.children;
  return node === under || (child !== undefined && isOn(child, under));
}
