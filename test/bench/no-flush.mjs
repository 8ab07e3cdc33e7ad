/**
 * A driver module: the node under it, whose flush does nothing. A job of ours flushes its target before it says that it is
 * done, one of qemu-storage-daemon does not; through this the two do the same work.
 */
export const driver = {
  open(options, context) {
    const child = context.open(options.file);
    const { readOnly, alignment, clusterSize, identity } = child;
    return { driver: import.meta.url, readOnly, alignment, clusterSize, identity, state: undefined, children: [child] };
  },
  connect(handle, context) {
    const node = context.connect(handle.children[0]);
    return Object.assign(Object.create(node), bound(node), { direct: node.direct, flush: () => 0 });
  },
  close: (handle, context) => context.close(handle.children[0]),
};

/** The verbs of a node, callable on another object: its fields are private to it. */
function bound(node) {
  const verbs = ["length", "read", "write", "discard", "writeZeroes", "status", "resize", "admit"];
  return Object.fromEntries(verbs.map((verb) => [verb, node[verb].bind(node)]));
}
