/** One JSON object a line, for programs. `event` says what it is; fields are only ever added. */
import type { ClientEvent, ServeReport, StopEnd, StopEvent } from "./serve-report.ts";
import type { Screen } from "../terminal/screen.ts";
import { keptBitmaps, type Serving } from "./serving.ts";

export class JsonReport implements ServeReport {
  readonly #screen: Screen;

  constructor(screen: Screen) {
    this.#screen = screen;
  }

  ready({ runtime, server, disks, tls, control, metrics }: Serving): void {
    const exports = disks.map(({ image, disk, exported }) => ({
      name: exported.name,
      image: image.path,
      node: disk.name,
      length: disk.length,
      readOnly: !exported.writable,
      bitmaps: exported.bitmaps.map((name) => ({ name, granularity: disk.bitmaps.get(name).granularity })),
      journal: disk.journal === undefined ? null : { path: disk.journal.path, bitmaps: keptBitmaps(runtime, disk) },
      uris: exported.uris,
    }));
    const { addresses } = server;
    const where = { addresses, control: control?.path ?? null, metrics: metrics?.where ?? null };
    this.#say("ready", { pid: process.pid, ...where, tls: tls ?? null, exports });
  }
  clientCame(client: ClientEvent): void {
    this.#say("connected", client);
  }
  clientLeft(client: ClientEvent & { readonly reason: string; readonly requests: number | undefined }): void {
    this.#say("disconnected", client);
  }
  clientRefused(refused: { readonly peer: string; readonly code: string; readonly reason: string }): void {
    this.#say("refused", refused);
  }
  threadDied(reason: string): void {
    this.#say("threadDied", { reason });
  }
  journalFailed({ bitmaps, error }: { readonly bitmaps: readonly string[]; readonly error: string }): void {
    this.#say("journalFailed", { bitmaps, reason: error });
  }
  stopping(stop: StopEvent): void {
    this.#say("stopping", stop);
  }
  stopped(end: StopEnd): void {
    this.#say("stopped", end);
  }

  #say(event: string, fields: object): void {
    this.#screen.print(JSON.stringify({ event, at: new Date().toISOString(), ...fields }));
  }
}
