/**
 * A driver module under every image of the stress: passes everything on, and says of each thread how long its own calls were in
 * the device. A machine that is short of memory lets a write to a tmpfs take a second: that is no delay by a backup (I7).
 */

let milliseconds = 0;

/** Milliseconds that this thread's requests were in a device since it began. */
export function deviceMs() {
  return milliseconds;
}

/** @template Value @param {() => Value} call @returns {Value} */
function timed(call) {
  const from = performance.now();
  try {
    return call();
  } finally {
    milliseconds += performance.now() - from;
  }
}

/** @type {import("../../packages/block/dist/index.js").Driver} */
export const driver = {
  options: { file: { type: "node", required: true, doc: "the image" } },
  open({ file }, context) {
    const child = context.open(/** @type {import("../../packages/block/dist/index.js").NodeSpec} */ (file));
    const { readOnly, alignment, clusterSize, identity } = child;
    return { driver: import.meta.url, readOnly, alignment, clusterSize, identity, state: null, children: [child] };
  },
  connect(handle, context) {
    const node = context.connect(handle.children[0]);
    return {
      direct: node.direct,
      length: () => node.length(),
      read: (buffer, offset) => timed(() => node.read(buffer, offset)),
      readNow: node.readNow?.bind(node),
      write: (buffer, offset) => timed(() => node.write(buffer, offset)),
      discard: (offset, length) => timed(() => node.discard(offset, length)),
      writeZeroes: (offset, length, unmap) => timed(() => node.writeZeroes(offset, length, unmap)),
      writeZeroesFast: node.writeZeroesFast?.bind(node),
      zeroesFrom: node.zeroesFrom?.bind(node),
      flush: () => node.flush(),
      status: (offset, length, extent) => node.status(offset, length, extent),
      resize: (length) => node.resize(length),
      admit: (kind, length) => node.admit(kind, length),
    };
  },
  close(handle, context) {
    context.close(handle.children[0]);
  },
};
