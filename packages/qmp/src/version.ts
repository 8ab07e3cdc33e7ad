/** What clients are told of who answers. Tools decide by the numbers what they may send, so those are QEMU's. */
import { readFileSync } from "node:fs";
import type { VersionInfo } from "./generated/qmp-types.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

/** Of the QEMU whose protocol this is. */
export const qmpVersion: VersionInfo = { qemu: { major: 7, minor: 2, micro: 0 }, package: `heirloom ${version}` };
