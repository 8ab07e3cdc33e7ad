/**
 * One run of the thread that carries TLS, from its start to its exit: what it was asked for and has not answered, and
 * which tunnels it carries. Nothing here outlives the thread; `tunnel.ts` starts another when one is needed.
 */
import { Worker } from "node:worker_threads";
import { closeFile } from "@heirloom/block";
import { TlsError } from "./tls-error.ts";
import {
  claimForMain,
  type FromTunnels,
  type PeerFacts,
  type StartMessage,
  type ToTunnels,
} from "./tunnel-messages.ts";

/** For a thread that does not end when it is asked. */
const END_MS = 2_000;

interface Pending {
  readonly message: StartMessage;
  readonly up: (peer: PeerFacts) => void;
  readonly fail: (error: TlsError) => void;
}

export class RunningThread {
  /** Resolves when the thread has exited and everything that was left to us is closed. */
  readonly exited: Promise<void>;
  readonly #worker: Worker;
  readonly #pending: Map<number, Pending> = new Map();
  readonly #up: Set<number> = new Set();
  readonly #onIdle: () => void;
  #ended = false;

  /** @param onIdle there is no tunnel any more, nor one on its way */
  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
    // Of the options that the process was started with it needs none, and some (--input-type) would stop it.
    const options = { name: "heirloom-nbd-tls", execArgv: [] };
    this.#worker = new Worker(new URL("./tunnel-worker.js", import.meta.url), options);
    this.#worker.on("message", (message: FromTunnels) => this.#hear(message));
    let reason = "it was ended";
    this.#worker.on("error", (error: Error) => {
      reason = error.message;
      this.#ended = true;
    });
    this.exited = new Promise((resolve) => {
      this.#worker.once("exit", () => {
        this.#bury(reason);
        resolve();
      });
    });
  }

  /** Whether it takes no more. */
  get ended(): boolean {
    return this.#ended;
  }

  get tunnels(): number {
    return this.#pending.size + this.#up.size;
  }

  /** From here on the descriptors of `message` are closed by one of the two threads, whatever happens. */
  start(message: StartMessage): Promise<PeerFacts> {
    return new Promise((resolve, reject) => {
      this.#pending.set(message.tunnel, { message, up: resolve, fail: reject });
      this.#worker.ref();
      this.#post(message);
    });
  }

  abort(tunnel: number): void {
    this.#post({ type: "abort", tunnel });
  }

  /** Asked rather than killed: one that is killed between taking over a descriptor and wrapping it leaves it open. */
  async end(): Promise<void> {
    this.#ended = true;
    this.#post({ type: "end" });
    const kill = setTimeout(() => void this.#worker.terminate(), END_MS);
    await this.exited;
    clearTimeout(kill);
  }

  #post(message: ToTunnels): void {
    this.#worker.postMessage(message);
  }

  #hear(message: FromTunnels): void {
    const { tunnel } = message;
    const pending = this.#pending.get(tunnel);
    this.#pending.delete(tunnel);
    if (message.type === "up") {
      this.#up.add(tunnel);
      pending?.up(message.peer);
    } else if (message.type === "failed") {
      pending?.fail(new TlsError(message.code, `start TLS: ${message.message}`));
    } else this.#up.delete(tunnel);
    if (this.tunnels > 0) return;
    this.#worker.unref(); // nobody needs it now: it keeps no process alive
    this.#onIdle();
  }

  /** What the thread had taken was closed with it; what it had not is ours to close. */
  #bury(reason: string): void {
    this.#ended = true;
    this.#up.clear();
    for (const { message, fail } of this.#pending.values()) {
      if (claimForMain(message.claim)) {
        closeFile(message.fd);
        closeFile(message.plainFd);
      }
      fail(new TlsError("ERR_NBD_TLS_THREAD", `start TLS: the thread for it ended: ${reason}`));
    }
    this.#pending.clear();
  }
}
