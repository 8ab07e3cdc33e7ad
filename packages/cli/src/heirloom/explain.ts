/**
 * Errors as people read them: what happened, in the words of whoever found out, and what to do next. No stack traces, unless
 * `HEIRLOOM_DEBUG=1` asks for them.
 *
 * Errors of the packages are known by their names and codes, which are stable, and not by their classes: a command line that
 * makes no sense is refused without loading them.
 */
import { constants } from "node:os";
import { CommandError } from "./command-error.ts";
import { quoted } from "./shell-words.ts";
import { printable } from "./terminal/printable.ts";

/** What the packages throw for what is no bug. */
interface KnownError extends Error {
  readonly code: string;
  readonly node?: string;
  readonly errno?: number;
}

const KNOWN = new Set([
  "BlockError",
  "HeirloomError",
  "JournalError",
  "ListenError",
  "NbdError",
  "NbdServerError",
  "RefusalError",
  "TlsError",
]);

export function explain(error: unknown): string {
  const { message, hints } = explanation(error);
  const trace = process.env.HEIRLOOM_DEBUG === "1" && error instanceof Error ? [error.stack ?? ""] : [];
  return [`heirloom: ${printable(message)}`, ...hints.map((hint) => `  ${hint}`), ...trace].join("\n");
}

function explanation(error: unknown): { readonly message: string; readonly hints: readonly string[] } {
  if (error instanceof CommandError) return error;
  if (isKnown(error)) return { message: error.message, hints: hintsFor(error) };
  const message = error instanceof Error ? error.message : String(error);
  return {
    message: `internal error: ${message}`,
    hints: ["This is a bug. HEIRLOOM_DEBUG=1 shows where it happened; please report it with that."],
  };
}

function isKnown(error: unknown): error is KnownError {
  return error instanceof Error && KNOWN.has(error.name) && "code" in error && typeof error.code === "string";
}

function hintsFor(error: KnownError): readonly string[] {
  const node = error.node === undefined ? "FILE" : quoted(error.node);
  switch (error.code) {
    case "ERR_IMAGE_LOCKED":
      return [`End the program that has it open first; 'lsof ${node}' names it.`];
    case "ERR_NODE_OPEN":
      return openHints(error.errno, node);
    case "ERR_NBD_LISTEN_IN_USE":
      return ["Choose another --socket or --listen, or stop whoever serves there ('ss -lp' names it)."];
    case "ERR_NBD_LISTEN":
      return listenHints(error.message);
    case "ERR_JOURNAL_PLACE":
    case "ERR_BITMAP_NOT_STORABLE":
      return ["--journal DIRECTORY keeps bitmaps somewhere else; --journal-allow-tmpfs takes a tmpfs, too."];
    case "ERR_JOURNAL_DAMAGED":
      return ["'heirloom journal check IMAGE' says more. Without the file, the next backup is a full one."];
    case "ERR_JOURNAL_LOCKED":
      return ["End the program that has the image open first; 'lsof FILE' names it."];
    case "ERR_NBD_TLS_CREDENTIALS":
      return [
        "Expected a directory with ca-cert.pem, server-cert.pem and server-key.pem (--tls-creds), or a file of psktool's (--tls-psk).",
      ];
    case "ERR_NBD_CONNECT":
      return ["Expected a server that listens there, and a socket that you may use."];
    case "ERR_NBD_EXPORT_UNKNOWN":
      return ["'nbdinfo --list URI' names the exports that the server has."];
    default:
      return [];
  }
}

function openHints(errno: number | undefined, node: string): readonly string[] {
  switch (errno) {
    case constants.errno.ENOENT:
      return [`Expected an image or a device that exists. Make an empty one: truncate -s 10G ${node}`];
    case constants.errno.EACCES:
    case constants.errno.EPERM:
    case constants.errno.EROFS:
      return ["Run it as a user who may do that; to serve it without writes, --read-only."];
    default:
      return [];
  }
}

/** The message holds the system's name of the error. */
function listenHints(message: string): readonly string[] {
  if (message.includes("ENOENT")) return ["Expected a directory that exists: make it, or choose another --socket."];
  if (message.includes("EACCES")) return ["Choose a --socket where you may write, or a --listen port from 1024 on."];
  return [];
}
