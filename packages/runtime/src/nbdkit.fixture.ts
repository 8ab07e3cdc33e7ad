/** nbdkit on a Unix socket in a scene's directory; it ends with its test. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, watch } from "node:fs";
import { connect } from "node:net";
import { onTestFinished, type TestContext } from "vitest";
import type { Scene } from "./scene.fixture.ts";
import { needTool } from "./tool.fixture.ts";

export interface Nbdkit {
  readonly path: string;
  readonly uri: string;
  /** As a crash would. */
  kill(): void;
}

/** @param name of the socket; one that is there already is replaced */
export async function nbdkit(
  context: TestContext,
  scene: Scene,
  name: string,
  args: readonly string[],
): Promise<Nbdkit> {
  needTool(context, "nbdkit");
  const path = scene.path(name);
  const pidFile = `${path}.pid`;
  rmSync(path, { force: true });
  rmSync(pidFile, { force: true });
  const child = spawn("nbdkit", ["-f", "--exit-with-parent", "-U", path, "--pidfile", pidFile, ...args], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  await new Promise<void>((resolve, reject) => {
    // The file is written when it listens.
    const look = (): void => {
      if (existsSync(pidFile) && readFileSync(pidFile, "utf8") !== "") resolve();
    };
    const watcher = watch(scene.directory, look);
    onTestFinished(() => watcher.close());
    child.once("exit", (code) => reject(new Error(`nbdkit ended with ${code}`)));
    look();
  });
  return { path, uri: `nbd+unix:///?socket=${path}`, kill: () => void child.kill("SIGKILL") };
}

/** Says a word to the control socket of nbdkit's pause filter: `p` holds every request, `r` lets them go. */
export async function pauseControl(path: string, word: "p" | "r"): Promise<void> {
  const control = connect(path);
  await once(control, "connect");
  control.write(word);
  await once(control, "data"); // it answers when it is so
  control.destroy();
}
