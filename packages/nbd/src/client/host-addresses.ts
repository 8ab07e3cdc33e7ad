/**
 * Addresses of a host for a thread that cannot await: names are looked up by a short-lived thread of their own, as Node
 * has no look-up that blocks.
 */
import { isIP } from "node:net";
import { Worker } from "node:worker_threads";

/** Bytes for the answer: some 40 addresses. */
const ANSWER_BYTES = 4096;

const program = `
const { workerData: { host, words, bytes } } = require("node:worker_threads");
require("node:dns").lookup(host, { all: true }, (error, found) => {
  const text = error ? "!" + error.message : found.map(({ address }) => address).slice(0, 40).join(" ");
  words[1] = new TextEncoder().encodeInto(text.slice(0, ${ANSWER_BYTES / 4}), bytes).written;
  Atomics.store(words, 0, 1);
  Atomics.notify(words, 0);
});`;

/**
 * @param wait sleeps until the first word is not 0; answers an errno where it gave up
 * @returns addresses of 4 or 16 bytes, or a text that says why there are none
 */
export function hostAddresses(host: string, wait: (words: Int32Array) => number): Uint8Array[] | string {
  if (isIP(host) !== 0) {
    const address = addressBytes(host);
    return address === undefined ? "an address with a zone is not supported here" : [address];
  }
  const words = new Int32Array(new SharedArrayBuffer(8));
  const bytes = new Uint8Array(new SharedArrayBuffer(ANSWER_BYTES));
  const worker = new Worker(program, { eval: true, execArgv: [], workerData: { host, words, bytes } });
  worker.unref();
  worker.on("error", () => undefined);
  if (wait(words) !== 0) {
    void worker.terminate();
    return "the name was not found in time";
  }
  const text = new TextDecoder().decode(bytes.slice(0, words[1]));
  if (text.startsWith("!")) return text.slice(1);
  return text.split(" ").flatMap((address) => addressBytes(address) ?? []);
}

/** Of an address in text; undefined for one with a zone. */
export function addressBytes(text: string): Uint8Array | undefined {
  if (text.includes("%")) return undefined;
  if (!text.includes(":")) return Uint8Array.from(text.split("."), Number);
  // An IPv4 tail is two groups.
  const hex = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, a: string, b: string, c: string, d: string) => {
    return `${(Number(a) * 256 + Number(b)).toString(16)}:${(Number(c) * 256 + Number(d)).toString(16)}`;
  });
  const [head, tail] = hex.split("::", 2).map((half) => (half === "" ? [] : half.split(":")));
  const groups =
    tail === undefined ? head : [...head, ...Array<string>(8 - head.length - tail.length).fill("0"), ...tail];
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  groups.forEach((group, index) => view.setUint16(2 * index, Number.parseInt(group, 16)));
  return bytes;
}
