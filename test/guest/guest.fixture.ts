/**
 * A real guest: QEMU boots a Debian kernel, whose first process mounts the ext4 file system of an NBD export and writes to
 * it. Its serial port is the control channel: a command a line in, what happened a line out.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { guestSystem } from "./kernel.ts";

/**
 * Emulation boots in five seconds anywhere; virtualisation is for those who ask for it, since in a virtual machine /dev/kvm may
 * be there and yet hang.
 */
const accelerator = process.env["HEIRLOOM_GUEST_ACCELERATOR"] ?? "tcg";

export interface GuestOptions {
  /** Of the export: nbd+unix:///NAME?socket=PATH or nbd://HOST:PORT/NAME. */
  readonly uri: string;
  /** Where the RAM disk goes. */
  readonly scratch: string;
}

/** What it says of a step, in order. */
export const parts = ["begun", "filed", "ringed", "synced"] as const;
export type Part = (typeof parts)[number];

export class Guest {
  readonly #process: ChildProcess;
  readonly #waiting = new Set<() => void>();
  readonly #exit: Promise<void>;
  #exited = false;
  #pings = 0;
  /** The last step of which the guest said that all of it is on its disk. */
  synced = 0;
  /** Everything that came from the serial port, lines. */
  readonly log: string[] = [];

  constructor({ uri, scratch }: GuestOptions) {
    const { kernel, initrd } = guestSystem(scratch);
    this.#process = spawn("qemu-system-x86_64", [
      ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "256", "-smp", "1"],
      ...["-machine", `q35,accel=${accelerator}`, "-cpu", "max"],
      ...["-kernel", kernel, "-initrd", initrd],
      // A panic ends QEMU, as does a reboot.
      ...["-append", "console=ttyS0 loglevel=4 panic=-1 reboot=t mitigations=off"],
      ...["-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"],
      ...["-drive", `if=none,id=disk,format=raw,discard=unmap,file=${uri.replaceAll(",", ",,")}`],
      ...["-device", "virtio-blk-pci,drive=disk"],
    ]);
    this.#exit = once(this.#process, "close").then(() => {
      this.#exited = true;
      this.#wake();
    });
    this.#process.stdin?.on("error", () => {}); // it ended: told to whoever waits
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      if (stream !== null) createInterface(stream).on("line", (line) => this.#hear(line));
    }
  }

  /** Mounts its disk. */
  async mount(options = "discard"): Promise<void> {
    await this.heard("ready");
    this.#say(`mount ${options}`);
    await this.heard("mounted");
  }

  /** Begins to write after step `from`; the first step is done. */
  async write(from = 0): Promise<void> {
    this.#say(`write ${from}`);
    await this.step(from + 1);
  }

  /** Until it said that this step is on its disk, or that it has come to an earlier part of it. */
  async step(step: number, part: Part = "synced"): Promise<void> {
    if (part === "synced") await this.#until(() => this.synced >= step, `synced ${step}`);
    else await this.heard(`${part} ${step}`);
  }

  /** Until what it did before now has been heard. @returns the last step of which it said that it is on its disk */
  async now(): Promise<number> {
    const ping = ++this.#pings;
    this.#say(`ping ${ping}`);
    await this.heard(`pong ${ping}`);
    return this.synced;
  }

  /** The step under way is the last, and everything is on the disk; the file system stays mounted. */
  async quiet(): Promise<void> {
    this.#say("quiet");
    await this.heard("quiet");
  }

  /** Ends its step, unmounts and goes. */
  async stop(): Promise<void> {
    this.#say("stop");
    await this.heard("unmounted");
    await this.#exit;
  }

  /** As a power cut does. */
  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#exit;
  }

  async heard(what: string): Promise<void> {
    await this.#until(() => this.log.includes(`guest: ${what}`), what);
  }

  #say(line: string): void {
    this.#process.stdin?.write(`${line}\n`);
  }

  #hear(text: string): void {
    const line = text.trimEnd();
    this.log.push(line);
    const synced = /^guest: synced (\d+)$/.exec(line);
    if (synced !== null) this.synced = Number(synced[1]);
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** @throws Error once the guest is gone, or could not do what it should */
  async #until(holds: () => boolean, what: string): Promise<void> {
    for (;;) {
      const trouble = this.log.find((line) => line.startsWith("guest: failed"));
      if (trouble !== undefined) throw this.#error(`expected '${what}', but '${trouble}'`);
      if (holds()) return;
      if (this.#exited) throw this.#error(`expected '${what}', but QEMU has ended`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
  }

  #error(sentence: string): Error {
    return new Error(`guest: ${sentence}; its last lines:\n${this.log.slice(-20).join("\n")}`);
  }
}

/** @returns a sentence about the first program that a guest needs and that is not here */
export function missingTools(): string | undefined {
  if (process.arch !== "x64") return `the guest is an x86-64 one, and this is ${process.arch}`;
  const tools = [
    "qemu-system-x86_64",
    "qemu-storage-daemon",
    "busybox",
    "dpkg-deb",
    "mkfs.ext4",
    "e2fsck",
    "debugfs",
    "nbdcopy",
  ];
  const tool = tools.find((name) => spawnSync("sh", ["-c", `command -v ${name}`]).status !== 0);
  return tool === undefined ? undefined : `${tool} is not installed`;
}
