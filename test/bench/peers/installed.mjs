/** Peers are other people's programs: used where they are installed, named where they are not. */
import { spawnSync } from "node:child_process";

const versions = new Map();

/** @returns {string | undefined} the first line of what `program --version` says; undefined if it is not here */
export function versionOf(program) {
  if (!versions.has(program)) {
    const result = spawnSync(program, ["--version"], { encoding: "utf8" });
    versions.set(program, result.status === 0 ? result.stdout.split("\n")[0].trim() : undefined);
  }
  return versions.get(program);
}

/** @returns {string | undefined} a sentence about the first one that is missing */
export function missing(...programs) {
  const program = programs.find((name) => versionOf(name) === undefined);
  return program === undefined ? undefined : `${program} is not installed`;
}
