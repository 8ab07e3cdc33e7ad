/** `heirloom serve` with its command line parsed: what does not fit together is refused here. */
import { resolve } from "node:path";
import { NBD_PORT } from "@heirloom/nbd";
import type { CommandContext } from "@stricli/core";
import { UsageError } from "../command-error.ts";
import { paintFor } from "../terminal/colours.ts";
import { Screen } from "../terminal/screen.ts";
import { parseImages } from "./image-argument.ts";
import { placeOf } from "./journal-place.ts";
import { JsonReport } from "./json-report.ts";
import { serve } from "./serve.ts";
import { type ServeFlags, STOP_TIMEOUT_SECONDS } from "./serve-command.ts";
import type { ServeReport } from "./serve-report.ts";
import { defaultSocketPath } from "./socket-path.ts";
import { TextReport } from "./text-report.ts";
import { loadServerTls } from "./tls-credentials.ts";

export async function runServe(this: CommandContext, flags: ServeFlags, ...texts: string[]): Promise<void> {
  const { socket = [], listen = [], bitmap: bitmaps = [], readOnly = false, format, maxConnections, pidFile } = flags;
  const { stopTimeout = STOP_TIMEOUT_SECONDS } = flags;
  const images = parseImages(texts, flags.name);
  if (readOnly && bitmaps.length > 0) {
    throw new UsageError(
      "--bitmap records what is written, and --read-only refuses writes",
      "Leave one of the two out.",
    );
  }
  const { journal, journalBound: bound, journalAllowTmpfs: allowTmpfs = false } = flags;
  if (journal === undefined && (bound !== undefined || allowTmpfs)) {
    throw new UsageError("--journal-bound and --journal-allow-tmpfs say how --journal keeps bitmaps", "Add --journal.");
  }
  if (journal !== undefined && readOnly) {
    throw new UsageError(
      "--journal keeps what is written, and --read-only refuses writes",
      "Leave one of the two out.",
    );
  }
  const twice = bitmaps.find(({ name }, index) => bitmaps.findIndex((other) => other.name === name) !== index);
  if (twice !== undefined) throw new UsageError(`--bitmap ${twice.name} is given twice`);
  const unix = socket.length + listen.length > 0 ? socket : [defaultSocketPath(images[0].path, process.env)];
  const request = {
    images,
    bitmaps,
    journal:
      journal === undefined
        ? undefined
        : { ...placeOf(journal), allowTmpfs, ...(bound === undefined ? {} : { bound }) },
    readOnly,
    format,
    listen: [
      ...unix.map((path) => ({ path: path === "" ? "" : resolve(path) })),
      ...listen.map(({ host, port = NBD_PORT }) => ({ host, port })),
    ],
    connectionsMax: maxConnections,
    tls: await loadServerTls(flags),
    metrics: flags.metrics,
    control: flags.control === undefined ? undefined : resolve(flags.control),
  };
  await serve(request, { pidFile, stopTimeoutMs: 1000 * stopTimeout }, reportFor(flags));
}

function reportFor({ json, hints }: ServeFlags): ServeReport {
  const screen = new Screen(process.stdout);
  if (json === true) return new JsonReport(screen);
  return new TextReport({ screen, paint: paintFor(process.stdout), hints: hints ?? process.stdout.isTTY });
}
