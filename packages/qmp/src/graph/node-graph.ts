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
import { type GraphNode, keepsPointInTime, nextNodeOrder } from "./graph-node.ts";
import { ImageLocks, locksWhenUsed } from "./image-locks.ts";
import { type NodePlan, planNode } from "./node-drivers.ts";
import { JobFilters } from "./job-filters.ts";
import { closeView, openView } from "./points-in-time.ts";
import { refuseName } from "./node-name.ts";
import { inQemuWords } from "./qemu-text.ts";
import type { ThrottleGroups } from "./throttle-groups.ts";

type OptionsOf<Driver extends BlockdevOptions["driver"]> = Extract<BlockdevOptions, { driver: Driver }>;

export class NodeGraph {
  readonly #runtime: Runtime;
  readonly #groups: ThrottleGroups;
  readonly #objects: ObjectStore;
  readonly #journal: JournalOptions | false;
  /** What nodes use beside other nodes. */
  readonly #uses = new Map<GraphNode, { release: () => void }>();
  readonly locks: ImageLocks;
  /** In the order in which they came. */
  readonly #nodes = new Map<string, GraphNode>();
  /** Of jobs: found by name, and in queries. */
  readonly #filters: JobFilters;
  #generated = 0;

  /** @param journal of images; undefined: none keeps bitmaps */
  constructor(runtime: Runtime, groups: ThrottleGroups, objects: ObjectStore, journal: JournalOptions | undefined) {
    this.#runtime = runtime;
    this.#filters = new JobFilters(runtime);
    this.#groups = groups;
    this.#objects = objects;
    this.locks = new ImageLocks(runtime, () => this.list());
    this.#journal = journal ?? false;
  }

  /** A job has begun. @param name of its filter, if one was given */
  addFilter(job: string, name: string | undefined, source: GraphNode, target: GraphNode): void {
    this.#filters.add(job, name ?? this.#generateName(), source, target);
  }

  /** Newest first. */
  list(): GraphNode[] {
    return [...this.#nodes.values(), ...this.#filters.list()].sort((one, other) => other.order - one.order);
  }

  find(name: string): GraphNode | undefined {
    return this.#nodes.get(name) ?? this.#filters.find(name);
  }

  /** Where a command takes a device or a node. @throws QmpError */
  get(name: string): GraphNode {
    const node = this.find(name);
    if (node !== undefined) return node;
    throw new QmpError(`Cannot find device='${name}' nor node-name='${name}'`);
  }

  /** @throws QmpError; then nothing is there that was not before */
  async add(options: BlockdevOptions): Promise<GraphNode> {
    if (options["node-name"] === undefined) throw new QmpError("'node-name' must be specified for the root node");
    return this.#open(options, { inner: false, followsParent: false });
  }

  /**
   * Opens the disk of a node anew, for writing or for reading only, where it is not so already; those that stand on it are not
   * writable before they are reopened themselves. @throws QmpError; then it is as it was
   */
  async reopen(node: GraphNode, readOnly: boolean): Promise<void> {
    const { options, children, disk } = node;
    await inQemuWords(() => disk.reopen({ readOnly, journal: this.#journalFor(options, children[0]) }));
  }

  /** A disk that its program attached under the node's name, and detaches. @param file where its image lies, if it has one */
  adopt(disk: Disk, driver: string, file: string | undefined): void {
    // Of drivers that QMP does not know (memory, modules) only the name is looked at.
    const options = { driver, "node-name": disk.name, filename: file, "read-only": disk.node.readOnly };
    const node: GraphNode = {
      name: disk.name,
      order: nextNodeOrder(),
      options: options as BlockdevOptions,
      disk,
      children: [],
      owned: [],
      inner: false,
      followsParent: false,
      writers: new Set(),
      owner: "program",
      filename: file ?? driver,
      file,
    };
    this.#nodes.set(node.name, node);
  }

  /** @throws QmpError */
  async remove(name: string): Promise<void> {
    const node = this.find(name);
    if (node === undefined) throw new QmpError(`Failed to find node with node-name='${name}'`);
    const { jobs, views, exports, windows } = node.disk.users;
    // The filter of a backup has taken its source's exports over in QEMU, and what is left is a node.
    const isSource = jobs.length > 0 && !this.#isTarget(node);
    if (exports.length > 0 && !isSource && node.job === undefined) throw new QmpError(`Node ${name} is in use`);
    if (node.job !== undefined || this.#isTarget(node)) {
      throw new QmpError(`Node '${name}' is busy: block device is in use by block job: backup`);
    }
    if (node.inner || node.owner !== "monitor") throw new QmpError(`Node ${name} is not owned by the monitor`);
    const isChild = this.list().some((other) =>
      other.children.some((child) => child === node || isEndedUser(child, node)),
    );
    const own = node.options.driver === "copy-before-write" ? 1 : 0; // the view that it is
    if (isChild || jobs.length + views.length + windows.length > own) {
      throw new QmpError(`Block device ${name} is in use`);
    }
    await this.#close(node);
  }

  #isTarget(node: GraphNode): boolean {
    return this.#runtime.jobs.some((job) => job.target.name === node.name && job.info.status !== "concluded");
  }

  async #open(options: BlockdevOptions, { inner, followsParent }: Place): Promise<GraphNode> {
    refuseCombination(options);
    const plan = planNode(options, this.#groups, this.#objects);
    const name = options["node-name"] ?? this.#generateName();
    const generated = options["node-name"] === undefined;
    const refuse = (): void => {
      if (!generated) refuseName(name, (other) => this.find(other) !== undefined);
    };
    if (!plan.childFirst) refuse();
    const child = plan.child === undefined ? undefined : await this.#child(plan.child, options);
    const children = child === undefined ? [] : [child];
    try {
      if (plan.childFirst) refuse();
      if (plan.second !== undefined) children.push(await this.#child(plan.second, options));
      if (options.driver === "copy-before-write") await this.#lockPointInTime(children);
      const disk = await this.#attach(plan, child, name, generated, options);
      if (options.driver === "copy-before-write") await this.#openView(disk, children[1].disk, options);
      const node: GraphNode = {
        name,
        order: nextNodeOrder(),
        options,
        disk,
        children,
        owned: children.filter((one) => one.inner && one.job === undefined),
        inner,
        followsParent,
        writers: new Set(),
        owner: "monitor",
        filename: child?.filename ?? plan.filename,
        file: child?.file ?? plan.file,
      };
      if (options["read-only"] === true) await this.reopen(node, true); // of drivers that have no word for it
      this.#nodes.set(name, node);
      if (!this.#keepsBitmaps(node.children[0], options)) this.locks.add(node);
      if (plan.uses !== undefined) this.#uses.set(node, this.#objects.use(plan.uses));
      if (options.driver === "throttle") this.#groups.join(options["throttle-group"], disk);
      return node;
    } catch (error) {
      for (const opened of [...children].reverse()) if (this.#isUnowned(opened)) await this.#close(opened);
      await this.locks.settle();
      throw error;
    }
  }

  /** What it keeps a point in time of is not to be written by others, and what it keeps goes to its target. */
  async #lockPointInTime([source, target]: readonly GraphNode[]): Promise<void> {
    await inQemuWords(async () => {
      await this.locks.take(source, "read");
      await this.locks.take(target, "write");
    });
  }

  /** Opened inside a node that did not come to be. */
  #isUnowned(node: GraphNode): boolean {
    return node.inner && node.job === undefined && !this.list().some((other) => other.owned.includes(node));
  }

  async #openView(disk: Disk, target: Disk, options: OptionsOf<"copy-before-write">): Promise<void> {
    try {
      await openView(disk, target, options, (name) => this.find(name));
    } catch (error) {
      await disk.detach();
      throw error;
    }
  }

  /** A node opened inside another is as read-only as that one unless it says otherwise. */
  async #child(reference: BlockdevRef, parent: BlockdevOptions): Promise<GraphNode> {
    if (typeof reference === "string") return this.get(reference);
    const followsParent = reference["read-only"] === undefined;
    const inherited: { "read-only"?: boolean } =
      followsParent && parent["read-only"] !== undefined ? { "read-only": parent["read-only"] } : {};
    return this.#open({ ...reference, ...inherited }, { inner: true, followsParent });
  }

  async #attach(
    plan: NodePlan,
    child: GraphNode | undefined,
    name: string,
    generated: boolean,
    options: BlockdevOptions,
  ): Promise<Disk> {
    return inQemuWords(async () => {
      const planned = plan.spec(child?.disk, child);
      // A sidecar is its process's alone for as long as it is open.
      const spec =
        this.#keepsBitmaps(child, options) && locksWhenUsed({ options }) ? { ...planned, locking: "on" } : planned;
      const attach = { name, generated, journal: this.#journalFor(options, child) } as const;
      try {
        return await this.#runtime.attach(spec, attach);
      } catch (error) {
        if (options["auto-read-only"] !== true || spec.readOnly !== false || !isUnwritable(error)) throw error;
        return this.#runtime.attach({ ...spec, readOnly: true }, attach);
      }
    });
  }

  /**
   * Bitmaps are put on the topmost node, and kept for the image that it stands on. A copy-before-write node comes and goes
   * below that, and a snapshot is nobody's image.
   */
  #journalFor(options: BlockdevOptions, child: GraphNode | undefined): JournalOptions | false | "take-over" {
    if (this.#journal === false || keepsPointInTime(options.driver)) return false;
    return child === undefined ? this.#journal : "take-over";
  }

  #keepsBitmaps(child: GraphNode | undefined, options: BlockdevOptions): boolean {
    return typeof this.#journalFor(options, child) === "object";
  }

  async #close(node: GraphNode): Promise<void> {
    await closeView(node.disk);
    await inQemuWords(() => node.disk.detach());
    this.#nodes.delete(node.name);
    this.locks.remove(node);
    this.#uses.get(node)?.release();
    this.#uses.delete(node);
    if (node.options.driver === "throttle") this.#groups.leave(node.options["throttle-group"], node.disk);
    for (const child of [...node.owned].reverse()) await this.#close(child);
    await this.locks.settle();
  }

  #generateName(): string {
    for (;;) {
      const name = `#block${String(this.#generated++).padStart(3, "0")}`;
      if (this.find(name) === undefined) return name;
    }
  }
}

type Place = Pick<GraphNode, "inner" | "followsParent">;

/** The filter of a job that may have ended, while somebody still reads what it kept. */
function isEndedUser(filter: GraphNode, node: GraphNode): boolean {
  return filter.job !== undefined && filter.children.includes(node);
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
