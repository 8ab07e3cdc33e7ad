/**
 * `attached`: a node that is open already, handed through, so that a window can stand on a disk that somebody has
 * attached. Whoever opened the node closes it.
 */
import type { ConnectContext, Driver, NodeHandle } from "../node.ts";
import { decoratedHandle } from "./decorated-node.ts";

export const attached: Driver = {
  options: { node: { type: "node", required: true, doc: "the handle of the open node" } },
  open: (options) => decoratedHandle("attached", options.node as NodeHandle, undefined),
  connect: (handle: NodeHandle, context: ConnectContext) => context.connect(handle.children[0]),
  close: () => {},
};
