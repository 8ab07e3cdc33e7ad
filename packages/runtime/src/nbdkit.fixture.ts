/** nbdkit on a Unix socket of a scene, ended with it. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { onTestFinished, type TestContext } from "vitest";
import type { Scene } from "./scene.fixture.ts";

export interface Nbdkit {
  readonly socket: string;
  readonly uri: string;
  readonly process: ChildProcess;
}

let servers = 0;

/** With these arguments, once it listens. */
export async function nbdkit(context: TestContext, scene: Scene, args: readonly string[]): Promise<Nbdkit> {
  if (spawnSync("sh", ["-c", "command -v nbdkit"]).status !== 0) {
    if (process.env.CI !== undefined) throw new Error("nbdkit is not installed, and CI must have it");
    context.skip("nbdkit is not installed");
  }
  const socket = scene.path(`nbdkit${servers++}.sock`);
  const child = spawn("nbdkit", ["-f", "--exit-with-parent", "-U", socket, ...args], { stdio: "ignore" });
  onTestFinished(() => void child.kill("SIGKILL"));
  for (;;) {
    const answers = await new Promise<boolean>((resolve) => {
      const probe = connect(socket, () => resolve(true));
      probe.once("error", () => resolve(false));
      probe.once("connect", () => probe.destroy());
    });
    if (answers) return { socket, uri: `nbd+unix:///?socket=${socket}`, process: child };
    if (child.exitCode !== null) throw new Error(`nbdkit ended with ${child.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Says a word to the control socket of nbdkit's pause filter: `p` holds every request, `r` lets them go. */
export async function pauseControl(path: string, word: "p" | "r"): Promise<void> {
  const control = connect(path);
  await once(control, "connect");
  control.write(word);
  await once(control, "data"); // it answers when it is so
  control.destroy();
}
