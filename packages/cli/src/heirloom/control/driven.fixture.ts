/** Who is driven: `heirloom serve --control`, our daemon through its monitor, and QEMU's. Each has a node `disk`. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished, type TestContext } from "vitest";
import { heirloom, needTool, type Ran, runHeirloom, scratchDirectory } from "../command.fixture.ts";

const daemon = fileURLToPath(new URL("../../../dist/storage-daemon/main.js", import.meta.url));
export const length: number = 4 * 2 ** 20;

export type Kind = "heirloom serve" | "heirloom-storage-daemon" | "qemu-storage-daemon";
export const kinds: readonly Kind[] = ["heirloom serve", "heirloom-storage-daemon", "qemu-storage-daemon"];

export interface Driven {
  readonly directory: string;
  readonly control: string;
  /** The disk's image. */
  readonly image: string;
  /** Where the disk is exported, writable. */
  readonly uri: string;
  readonly child: ChildProcess;
  /** `heirloom` in the directory, with HEIRLOOM_CONTROL set. */
  readonly heirloom: (...words: string[]) => Promise<Ran>;
  readonly env: NodeJS.ProcessEnv;
  /** Ends it by a signal, and starts it anew over the same files, with these options instead. */
  readonly again: (signal: NodeJS.Signals, ...serveOptions: string[]) => Promise<Driven>;
}

/** @param context where the peer may be missing */
export async function drive(context: TestContext | undefined, kind: Kind, ...serveOptions: string[]): Promise<Driven> {
  if (context !== undefined && kind === "qemu-storage-daemon") needTool(context, kind);
  const directory = scratchDirectory();
  const image = join(directory, "disk.raw");
  writeFileSync(image, Buffer.alloc(length / 2, "data"));
  truncateSync(image, length);
  return start(directory, kind, serveOptions);
}

async function start(directory: string, kind: Kind, serveOptions: readonly string[]): Promise<Driven> {
  const [image, control, nbd] = ["disk.raw", "control", "nbd"].map((name) => join(directory, name));
  const words =
    kind === "heirloom serve"
      ? [heirloom, "serve", `${image}=disk`, "--socket", nbd, "--control", control, ...serveOptions]
      : [
          ...(kind === "qemu-storage-daemon" ? [] : [daemon]),
          ...["--blockdev", `driver=file,node-name=disk,filename=${image}`],
          ...["--nbd-server", `addr.type=unix,addr.path=${nbd}`, "--export", "nbd,id=e,node-name=disk,writable=on"],
          ...["--chardev", `socket,id=m,path=${control},server=on,wait=off`, "--monitor", "m"],
        ];
  const program = kind === "qemu-storage-daemon" ? kind : process.execPath;
  const child = spawn(program, words, { stdio: "ignore" });
  const gone = once(child, "exit");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await gone;
  });
  while (!(existsSync(control) && (await answers(control)))) {
    if (child.exitCode !== null) throw new Error(`${kind} has ended: ${child.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const env = { ...process.env, HEIRLOOM_CONTROL: control };
  return {
    directory,
    control,
    image,
    uri: `nbd+unix:///disk?socket=${nbd}`,
    child,
    env,
    again: async (signal, ...options) => {
      child.kill(signal);
      await gone;
      return start(directory, kind, options);
    },
    heirloom: (...args) => runHeirloom(args, { cwd: directory, env }),
  };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
