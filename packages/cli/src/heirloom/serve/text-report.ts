/** For people: what is served, who comes and goes, and on a terminal what happens right now. */
import type { Disk } from "@heirloom/runtime";
import type { Paint } from "../terminal/colours.ts";
import { printable } from "../terminal/printable.ts";
import type { Screen } from "../terminal/screen.ts";
import { quoted } from "../shell-words.ts";
import { formatBytes } from "../sizes.ts";
import { howToUse } from "./how-to-use.ts";
import { LiveFigures } from "./live-figures.ts";
import type { ClientEvent, ServeReport, StopEnd, StopEvent } from "./serve-report.ts";
import { type KeptBitmap, keptBitmaps, oldestFirst, type ServedDisk, type Serving } from "./serving.ts";
import { isLoopback } from "./listen-argument.ts";

const REFRESH_MS = 1000;
/** How clients end that only asked what there is. */
const HARMLESS = new Set(["ERR_NBD_ABORTED", "ERR_NBD_DISCONNECTED"]);

export interface TextReportOptions {
  readonly screen: Screen;
  readonly paint: Paint;
  /** Says how to use it. */
  readonly hints: boolean;
}

export class TextReport implements ServeReport {
  readonly #options: TextReportOptions;
  #serving: Serving | undefined;
  #figures: LiveFigures | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(options: TextReportOptions) {
    this.#options = options;
  }

  ready(serving: Serving): void {
    this.#serving = serving;
    const { screen, hints } = this.#options;
    for (const served of serving.disks) screen.print(...this.#describe(served));
    if (serving.control !== undefined) screen.print(`Driven over QMP: --control ${quoted(serving.control.path)}`);
    if (serving.metrics !== undefined) screen.print(`Metrics: ${serving.metrics.where}`);
    if (hints) screen.print(...this.#hints(serving));
    for (const warning of warnings(serving)) screen.print(this.#options.paint("yellow", warning));
    if (!screen.isLive) {
      screen.print("Ready. SIGINT, SIGTERM and SIGHUP stop it.");
      return;
    }
    this.#figures = new LiveFigures(serving.disks);
    this.#refresh();
    this.#timer = setInterval(() => this.#refresh(), REFRESH_MS);
    this.#timer.unref();
  }

  clientCame({ connection, export: name, peer, tls }: ClientEvent): void {
    const who = tls?.identity ?? tls?.subject;
    const as = who === undefined ? "" : ` as ${who.replaceAll("\n", ", ")}`;
    this.#event("green", `${shown(name)}: client ${connection} connected${from(peer)}${as} (${this.#clients(name)})`);
  }
  clientLeft(client: ClientEvent & { readonly reason: string; readonly requests: number | undefined }): void {
    const { connection, export: name, reason, requests } = client;
    const made = requests === undefined ? "" : `after ${count(requests, "request")}, `;
    this.#event("cyan", `${shown(name)}: client ${connection} left: ${made}${reason} (${this.#clients(name)})`);
  }
  clientRefused({
    peer,
    code,
    reason,
  }: {
    readonly peer: string;
    readonly code: string;
    readonly reason: string;
  }): void {
    if (!HARMLESS.has(code)) this.#event("yellow", `a client${from(peer)} was turned away: ${reason}`);
  }
  threadDied(reason: string): void {
    // In a stop they are ended where they hang.
    if (!this.#stopping) this.#event("red", `a thread died: ${reason}`);
  }

  journalFailed({ disk, bitmaps, error }: Parameters<ServeReport["journalFailed"]>[0]): void {
    const name = this.#serving?.disks.find((served) => served.disk.name === disk)?.exported.name ?? disk;
    const what = bitmaps.length === 0 ? "bitmaps" : bitmaps.join(", ");
    this.#event("red", `${shown(name)}: ${what} can no longer be kept and must not be relied on: ${error}`);
  }

  stopping({ signal, clients, hard }: StopEvent): void {
    this.#stopping = true;
    const answering = clients === 0 ? "" : `, ${count(clients, "connection")} to be answered what is in flight`;
    const what = hard ? "Cutting clients off" : `Stopping${answering}`;
    const next = hard ? "again: at once" : "again: clients are cut off";
    this.#event("bold", `${what} (${signal}; ${next})`);
  }
  stopped({ clean, why }: StopEnd): void {
    clearInterval(this.#timer);
    this.#figures = undefined;
    if (clean) this.#event("bold", "Stopped.");
    else this.#event("red", `Stopped, not cleanly: ${why}`);
  }

  #describe({ image, disk, exported }: ServedDisk): readonly string[] {
    const { paint } = this.#options;
    const parts = [formatBytes(disk.length), exported.writable ? "writable" : "read-only"];
    for (const { name, granularity } of oldestFirst(disk).filter(({ inconsistent }) => !inconsistent)) {
      parts.push(`bitmap ${name} (a bit for ${formatBytes(granularity)})`);
    }
    if (this.#serving?.control !== undefined && disk.name !== exported.name) parts.push(`node ${disk.name}`);
    const title = image.path === exported.name ? image.path : `${image.path} as ${shown(exported.name)}`;
    const kept = this.#kept(disk).flatMap(({ name, story, inconsistent, waiting }) => [
      paint(
        inconsistent ? "red" : "dim",
        `  ${name}: ${inconsistent ? "not exported, it is inconsistent: " : ""}${printable(story)}`,
      ),
      ...(waiting === null ? [] : [paint("yellow", `  ${name}: ${this.#howToResume(waiting)}`)]),
    ]);
    const uris = exported.uris.map((uri) => `  ${paint("cyan", uri)}`);
    return [`${paint("bold", title)}: ${parts.join(", ")}`, ...uris, ...kept];
  }

  #kept(disk: Disk): readonly KeptBitmap[] {
    return this.#serving === undefined ? [] : keptBitmaps(this.#serving.runtime, disk);
  }

  #howToResume(job: string): string {
    const [resume, cancel] = [`heirloom resume ${quoted(job)}`, `heirloom cancel ${quoted(job)}`];
    if (this.#serving?.control !== undefined) return `to go on: ${resume}; to give the backup up: ${cancel}`;
    return `not exported before that backup has ended; with --control PATH: ${resume}, or ${cancel}`;
  }

  #hints({ server, disks, tls }: Serving): readonly string[] {
    const [{ exported }] = disks;
    const [address] = server.addresses;
    const { name, writable, bitmaps, uris } = exported;
    const lines = [""];
    const usable = { name, uri: uris[0], address, writable, bitmap: bitmaps.at(0), tls };
    for (const { what, commands } of howToUse(usable)) {
      lines.push(this.#options.paint("dim", `${what}:`), ...commands.map((command) => `  ${command}`));
    }
    return [...lines, ""];
  }

  /** The figures, below lines that stay. */
  #refresh(...lines: readonly string[]): void {
    const rows = this.#figures?.rows(performance.now()) ?? [];
    const { screen, paint } = this.#options;
    screen.live(rows.length === 0 ? [] : [...rows, paint("dim", "Ctrl-C stops")], ...lines);
  }

  #clients(name: string): string {
    const exported = this.#serving?.disks.find((served) => served.exported.name === name)?.exported;
    return `${exported?.clients ?? 0} connected`;
  }

  #event(format: Parameters<Paint>[0], text: string): void {
    const { paint } = this.#options;
    this.#refresh(`${paint("dim", new Date().toTimeString().slice(0, 8))} ${paint(format, printable(text))}`);
  }
}

/** A bitmap begins empty, and who can reach an open port is told. */
function warnings({ server, disks, tls }: Serving): readonly string[] {
  const lines: string[] = [];
  if (disks.some(({ disk }) => disk.bitmaps.list().some(({ persistent }) => !persistent))) {
    lines.push("Bitmaps begin empty and live as long as this command: the first backup has to be a full one.");
  }
  const open = server.addresses.filter((address) => !("path" in address) && !isLoopback(address));
  if (open.length > 0 && tls === undefined) {
    lines.push("Anybody who reaches the port can use the disks: there is no TLS on it (--tls-creds, --tls-psk).");
  }
  return lines;
}

function shown(name: string): string {
  return name === "" ? "the default export" : name;
}

/** A Unix socket's clients have no address of their own. */
function from(peer: string): string {
  return peer.startsWith("unix:") ? "" : ` from ${peer}`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
