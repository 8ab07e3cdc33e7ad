/**
 * A monitor's client with next to nothing in it: lines out, lines in, answers by their order. It is not the client under
 * test, and both daemons are asked through it.
 */
import { connect } from "node:net";

/** @typedef {{ return?: any, error?: { class: string, desc: string }, died?: true }} Reply */
/** @typedef {{ event: string, data: Record<string, any> }} Event */

/** What is answered to whatever is asked once the other end has gone. @type {Reply} */
const died = { died: true };

export class LineClient {
  #socket;
  #text = "";
  #gone = false;
  /** @type {Array<(reply: Reply) => void>} */
  #pending = [];
  /** Those that were told, until somebody takes them. @type {Event[]} */
  events = [];
  #wake = () => {};

  /** @param {import("node:net").Socket} socket */
  constructor(socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (/** @type {string} */ chunk) => this.#read(chunk));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#gone = true;
      for (const resolve of this.#pending.splice(0)) resolve(died);
      this.#wake();
    });
  }

  /** @param {string} path @returns {Promise<LineClient>} */
  static async connect(path) {
    const socket = connect(path);
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    const client = new LineClient(socket);
    await client.ask("qmp_capabilities");
    return client;
  }

  /**
   * @param {string} execute
   * @param {object} [args]
   * @returns {Promise<Reply>} also what was refused; `died` where the other end has gone
   */
  ask(execute, args) {
    if (this.#gone) return Promise.resolve(died);
    this.#socket.write(JSON.stringify({ execute, arguments: args }));
    return new Promise((resolve) => this.#pending.push(resolve));
  }

  /** The same, where a refusal is a fault of the test. @param {string} execute @param {object} [args] @returns {Promise<any>} */
  async must(execute, args) {
    const reply = await this.ask(execute, args);
    if ("return" in reply) return reply.return;
    throw new Error(`${execute} ${JSON.stringify(args)}: ${JSON.stringify(reply)}`);
  }

  /** Resolves at the next event, the other end's end, or after a time. @param {number} ms */
  async news(ms) {
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    await new Promise((resolve) => {
      timer = setTimeout(resolve, ms);
      this.#wake = () => resolve(undefined);
    });
    clearTimeout(timer);
  }

  close() {
    this.#socket.destroy();
  }

  /** @param {string} chunk */
  #read(chunk) {
    this.#text += chunk;
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end < 0) return;
      const message = JSON.parse(this.#text.slice(0, end));
      this.#text = this.#text.slice(end + 1);
      if ("QMP" in message) continue;
      if ("event" in message) {
        this.events.push(message);
        this.#wake();
      } else this.#pending.shift()?.(message);
    }
  }
}
