/**
 * The nodes: named ones that clients add and take away, and those that were opened inside them.
 *
 * Each node is an attached disk of the runtime under the node's name, so that bitmaps and jobs find it; a node that stands on
 * another is a window of that one. Commands that change the graph come one at a time (whoever calls sees to it).
 */
import type { Disk, JournalOptions, Runtime } from "@heirloom/runtime";
import type { ObjectStore } from "../commands/object-store.ts";
import type { BlockdevOptions, BlockdevRef } from "../generated/qmp-types.ts";
import { QmpError } from "../qmp-error.ts";
import type { GraphNode } from "./graph-node.ts";
import { type NodePlan, planNode } from "./node-drivers.ts";
import { refuseName } from "./node-name.ts";
import { inQemuWords } from "./qemu-text.ts";
import type { ThrottleGroups } from "./throttle-groups.ts";

export class NodeGraph {
  readonly #runtime: Runtime;
  readonly #groups: ThrottleGroups;
  readonly #objects: ObjectStore;
  readonly #journal: JournalOptions | false;
  /** What nodes use beside other nodes. */
  readonly #uses = new Map<GraphNode, { release: () => void }>();
  /** In the order in which they came. */
  readonly #nodes = new Map<string, GraphNode>();
  #generated = 0;

  /** @param journal of images; undefined: none keeps bitmaps */
  constructor(runtime: Runtime, groups: ThrottleGroups, objects: ObjectStore, journal: JournalOptions | undefined) {
    this.#runtime = runtime;
    this.#groups = groups;
    this.#objects = objects;
    this.#journal = journal ?? false;
  }

  /** Newest first. */
  list(): GraphNode[] {
    return [...this.#nodes.values()].reverse();
  }

  find(name: string): GraphNode | undefined {
    return this.#nodes.get(name);
  }

  /** Where a command takes a device or a node. @throws QmpError */
  get(name: string): GraphNode {
    const node = this.#nodes.get(name);
    if (node !== undefined) return node;
    throw new QmpError(`Cannot find device='${name}' nor node-name='${name}'`);
  }

  /** @throws QmpError; then nothing is there that was not before */
  async add(options: BlockdevOptions): Promise<GraphNode> {
    if (options["node-name"] === undefined) throw new QmpError("'node-name' must be specified for the root node");
    return this.#open(options, false);
  }

  /** A disk that its program attached under the node's name, and detaches. @param file where its image lies, if it has one */
  adopt(disk: Disk, driver: string, file: string | undefined): void {
    // Of drivers that QMP does not know (memory, modules) only the name is looked at.
    const options = { driver, "node-name": disk.name, filename: file, "read-only": disk.node.readOnly };
    const node: GraphNode = {
      name: disk.name,
      options: options as BlockdevOptions,
      disk,
      children: [],
      inner: false,
      owner: "program",
      filename: file ?? driver,
      file,
    };
    this.#nodes.set(node.name, node);
  }

  /** @throws QmpError */
  async remove(name: string): Promise<void> {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new QmpError(`Failed to find node with node-name='${name}'`);
    if (this.#isTarget(node)) throw new QmpError(`Node '${name}' is busy: block device is in use by block job: backup`);
    const { jobs, views, exports, windows } = node.disk.users;
    if (exports.length > 0) throw new QmpError(`Node ${name} is in use`);
    if (jobs.length + views.length + windows.length > 0) throw new QmpError(`Block device ${name} is in use`);
    if (node.inner || node.owner !== "monitor") throw new QmpError(`Node ${name} is not owned by the monitor`);
    await this.#close(node);
  }

  #isTarget(node: GraphNode): boolean {
    return this.#runtime.jobs.some((job) => job.target.name === node.name && job.info.status !== "concluded");
  }

  async #open(options: BlockdevOptions, inner: boolean): Promise<GraphNode> {
    refuseCombination(options);
    const plan = planNode(options, this.#groups, this.#objects);
    const name = options["node-name"] ?? this.#generateName();
    const generated = options["node-name"] === undefined;
    const refuse = (): void => {
      if (!generated) refuseName(name, (other) => this.#nodes.has(other));
    };
    if (!plan.childFirst) refuse();
    const child = plan.child === undefined ? undefined : await this.#child(plan.child, options);
    try {
      if (plan.childFirst) refuse();
      const disk = await this.#attach(plan, child?.disk, name, generated, options);
      const node: GraphNode = {
        name,
        options,
        disk,
        children: child === undefined ? [] : [child],
        inner,
        owner: "monitor",
        filename: child?.filename ?? plan.filename,
        file: child?.file ?? plan.file,
      };
      this.#nodes.set(name, node);
      if (plan.uses !== undefined) this.#uses.set(node, this.#objects.use(plan.uses));
      if (options.driver === "throttle") this.#groups.join(options["throttle-group"], disk);
      return node;
    } catch (error) {
      if (child?.inner === true) await this.#close(child);
      throw error;
    }
  }

  /** A node opened inside another is as read-only as that one unless it says otherwise. */
  async #child(reference: BlockdevRef, parent: BlockdevOptions): Promise<GraphNode> {
    if (typeof reference === "string") return this.get(reference);
    const inherited: { "read-only"?: boolean } =
      reference["read-only"] === undefined && parent["read-only"] !== undefined
        ? { "read-only": parent["read-only"] }
        : {};
    return this.#open({ ...reference, ...inherited }, true);
  }

  async #attach(
    plan: NodePlan,
    child: Disk | undefined,
    name: string,
    generated: boolean,
    options: BlockdevOptions,
  ): Promise<Disk> {
    return inQemuWords(async () => {
      const spec = plan.spec(child);
      // Bitmaps are put on the topmost node, and kept for the image that it stands on.
      const journal = this.#journal === false || child === undefined ? this.#journal : "take-over";
      const attach = { name, generated, journal } as const;
      try {
        return await this.#runtime.attach(spec, attach);
      } catch (error) {
        if (options["auto-read-only"] !== true || spec.readOnly !== false || !isUnwritable(error)) throw error;
        return this.#runtime.attach({ ...spec, readOnly: true }, attach);
      }
    });
  }

  async #close(node: GraphNode): Promise<void> {
    await inQemuWords(() => node.disk.detach());
    this.#nodes.delete(node.name);
    this.#uses.get(node)?.release();
    this.#uses.delete(node);
    if (node.options.driver === "throttle") this.#groups.leave(node.options["throttle-group"], node.disk);
    for (const child of node.children) if (child.inner) await this.#close(child);
  }

  #generateName(): string {
    for (;;) {
      const name = `#block${String(this.#generated++).padStart(3, "0")}`;
      if (!this.#nodes.has(name)) return name;
    }
  }
}

function isUnwritable(error: unknown): boolean {
  const { errno } = error as { errno?: number };
  return errno === 1 || errno === 13 || errno === 30; // EPERM, EACCES, EROFS
}

function refuseCombination(options: BlockdevOptions): void {
  if (options["detect-zeroes"] === "unmap" && options.discard !== "unmap") {
    throw new QmpError("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
  }
}
