import { readFileSync } from "node:fs";

export function packageVersion(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

export function versionText(program: string): string {
  return `${program} version ${packageVersion()}\nSpeaks the protocol of QEMU 7.2's storage daemon.\n`;
}
