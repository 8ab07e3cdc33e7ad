/**
 * Errors as people read them: what happened, in the words of whoever found out, and what to do next. No stack traces, unless
 * `HEIRLOOM_DEBUG=1` asks for them.
 */
import { BlockError, errnoName } from "@heirloom/block";
import { ListenError, NbdError } from "@heirloom/nbd";
import { HeirloomError } from "@heirloom/runtime";
import { CommandError } from "./command-error.ts";
import { quoted } from "./shell-words.ts";

export function explain(error: unknown): string {
  const { message, hints } = explanation(error);
  const trace = process.env.HEIRLOOM_DEBUG === "1" && error instanceof Error ? [error.stack ?? ""] : [];
  return [`heirloom: ${message}`, ...hints.map((hint) => `  ${hint}`), ...trace].join("\n");
}

function explanation(error: unknown): { readonly message: string; readonly hints: readonly string[] } {
  if (error instanceof CommandError) return error;
  if (error instanceof BlockError) return { message: error.message, hints: aboutDisk(error) };
  if (error instanceof ListenError) return { message: error.message, hints: aboutListening(error) };
  if (error instanceof NbdError) return { message: error.message, hints: aboutServer(error) };
  if (error instanceof HeirloomError) return { message: error.message, hints: [] };
  const message = error instanceof Error ? error.message : String(error);
  return {
    message: `internal error: ${message}`,
    hints: ["This is a bug. HEIRLOOM_DEBUG=1 shows where it happened; please report it with that."],
  };
}

function aboutDisk(error: BlockError): readonly string[] {
  const node = error.node === undefined ? "the image" : quoted(error.node);
  if (error.code === "ERR_IMAGE_LOCKED") {
    return [`End the program that has it open first; 'lsof ${node}' names it.`];
  }
  if (error.code !== "ERR_NODE_OPEN" || error.errno === undefined) return [];
  switch (errnoName(error.errno)) {
    case "ENOENT":
      return [`Expected an image or a device that exists. Make an empty one: truncate -s 10G ${node}`];
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return ["Run it as a user who may write there, or serve it with --read-only."];
    default:
      return [];
  }
}

function aboutListening(error: ListenError): readonly string[] {
  switch (error.code) {
    case "ERR_NBD_LISTEN_IN_USE":
      return ["Choose another --socket or --listen, or stop whoever serves there ('ss -lp' names it)."];
    case "ERR_NBD_LISTEN":
      if (error.message.includes("ENOENT"))
        return ["Expected a directory that exists: make it, or choose another --socket."];
      if (error.message.includes("EACCES"))
        return ["Choose a --socket where you may write, or a --listen port from 1024 on."];
      return [];
    default:
      return [];
  }
}

function aboutServer(error: NbdError): readonly string[] {
  switch (error.code) {
    case "ERR_NBD_CONNECT":
      return ["Expected a server that listens there, and a socket that you may use."];
    case "ERR_NBD_EXPORT_UNKNOWN":
      return ["'nbdinfo --list URI' names the exports that the server has."];
    default:
      return [];
  }
}
