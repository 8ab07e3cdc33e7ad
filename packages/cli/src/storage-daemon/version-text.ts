import { readFileSync } from "node:fs";

export function versionText(program: string): string {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return `${program} version ${version}\nSpeaks the protocol of QEMU 7.2's storage daemon.\n`;
}
