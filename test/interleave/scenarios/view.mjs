/** Guests, copiers, drainers and readers around one view. */
import { backup, clearing, copier, guest, reader, waitingGuest } from "./parts.mjs";

const kernel = copier({ kernel: true });
const drainer = copier({ copies: false });
const scanner = copier({ scan: { kind: "allocated" } });
const roomy = { slots: 4, delayMs: 20 };
const single = { slots: 1, delayMs: 20 };

export const viewScenarios = [
  backup(
    "freeze",
    { view: roomy, end: "at once", mustSucceed: true },
    { "guest A": guest([0, 1]), "guest B": guest([1, 0]) },
  ),
  backup(
    "same-cluster",
    { view: roomy, end: "at once", clusters: 1, content: [11], mustSucceed: true },
    { "guest A": guest([0]), "guest B": guest([0]) },
  ),
  backup("copier", { view: roomy, mustSucceed: true }, { guest: guest([0, 1]), copier: copier() }),
  backup(
    "copier-run",
    { view: roomy, mustSucceed: true, dirty: [0, 1] },
    { "guest A": guest([[0, 2]]), "guest B": guest([1]), copier: copier({ runClusters: 2 }) },
  ),
  backup(
    "copier-small",
    { view: roomy, mustSucceed: true, clusters: 1, content: [11] },
    { guest: guest([0]), copier: copier({ clusters: 1 }) },
  ),
  backup(
    "copier-cancel",
    { view: roomy, end: "at once" },
    { guest: guest([0, 1]), copier: copier({ runClusters: 2 }) },
  ),
  backup(
    "copier-zeroes",
    { view: roomy, mustSucceed: true, content: [0, 12] },
    { guest: clearing, "guest B": guest([0]), copier: copier({ detectZeroes: true }) },
  ),
  backup(
    "two-copiers",
    { view: roomy, mustSucceed: true },
    { guest: guest([0]), "copier A": copier({ runClusters: 2 }), "copier B": kernel },
  ),
  backup("kernel", { view: roomy, mustSucceed: true }, { guest: guest([0, 1]), copier: kernel }),
  backup(
    "kernel-small",
    { view: roomy, mustSucceed: true, clusters: 1, content: [11] },
    { guest: guest([0]), copier: copier({ kernel: true, clusters: 1 }) },
  ),
  backup(
    "two-kernel-copiers",
    { view: roomy, mustSucceed: true, clusters: 1, content: [11] },
    {
      guest: guest([0]),
      "copier A": copier({ kernel: true, clusters: 1 }),
      "copier B": copier({ kernel: true, clusters: 1 }),
    },
  ),
  backup(
    "kernel-zeroes",
    { view: roomy, mustSucceed: true, content: [0, 12] },
    { guest: clearing, "guest B": guest([0]), copier: copier({ kernel: true }) },
  ),
  backup("spill", { view: single }, { guest: guest([[0, 2]]), "guest B": guest([1]), copier: copier() }),
  backup(
    "spill-break",
    { view: { slots: 1, delayMs: 0 } },
    { guest: guest([[0, 2]]), "guest B": guest([1]), copier: copier() },
  ),
  backup(
    "spill-kernel",
    { view: { slots: 1, delayMs: 0 } },
    { guest: guest([[0, 2]]), copier: kernel, "drainer B": drainer },
  ),
  backup(
    "spill-refuses-guest",
    { view: { slots: 1, delayMs: 0, breakGuestWrite: true }, mustSucceed: true, mayRefuse: true },
    { guest: guest([[0, 2]]), copier: copier() },
  ),
  backup(
    "spill-file",
    { view: { slots: 1, fileSlots: 2, delayMs: 20 }, mustSucceed: true, clusters: 3 },
    { guest: guest([[0, 3]]), "guest B": guest([2]), copier: copier({ clusters: 3 }) },
  ),
  backup(
    "spill-zeroes",
    { view: single, content: [0, 12], end: "at once" },
    { guest: guest([0]), "guest B": guest([1]), drainer },
  ),
  backup("spill-drained", { view: single, movers: [1, 2] }, { guest: guest([0]), "guest B": guest([1]), drainer }),
  backup(
    "set",
    { view: roomy, dirty: [1], mustSucceed: true, clusters: 3 },
    { guest: guest([[0, 3]]), copier: copier({ clusters: 3 }) },
  ),
  backup(
    "death-of-a-guest",
    { view: single, mortal: [1] },
    { "guest A": guest([[0, 2]]), "guest B": guest([0, 1]), copier: copier({ runClusters: 2 }) },
  ),
  backup(
    "death-of-a-copier",
    { view: roomy, mortal: [2, 3] },
    { guest: guest([0, 1]), "copier A": copier(), "copier B": kernel },
  ),
  backup(
    "scan",
    { view: roomy, mustSucceed: true, content: [0, 12] },
    { guest: clearing, "guest B": guest([0]), "copier A": scanner, "copier B": scanner },
  ),
  backup(
    "reader",
    { view: roomy, end: "at once", clusters: 1, content: [11] },
    { guest: guest([0, 0]), reader: reader([0, 0]) },
  ),
  backup(
    "reader-and-drainer",
    { view: single },
    { guest: guest([0, 1]), "reader of the view": reader([0, 1], 3), drainer },
  ),
  backup(
    "reader-of-a-file",
    { view: { slots: 1, fileSlots: 1, delayMs: 20 }, clusters: 4 },
    { guest: guest([0, 1, 2, 3]), "reader of the view": reader([1], 3), drainer },
  ),
  backup(
    "reader-and-copier",
    { view: single },
    { guest: guest([0, 1]), "reader of the view": reader([0, 1], 3), copier: copier() },
  ),
  backup(
    "reader-and-breaks",
    { view: { slots: 1, delayMs: 0 } },
    { guest: guest([[0, 2]]), "guest B": guest([0]), "reader of the view": reader([0, 1, 0], 3) },
  ),
  backup(
    "waits-for-target",
    { view: { slots: 2, delayMs: 20, breakGuestWrite: true, synchronous: true }, movers: [1, 2] },
    { guest: waitingGuest([[0, 2]]), "guest B": waitingGuest([[1, 1]]), drainer },
  ),
  backup(
    "death-of-a-reader",
    { view: single, mortal: [3] },
    { "guest A": guest([0]), "guest B": guest([1, 0]), "reader of the view": reader([0, 1], 3), drainer },
  ),
];
