/** `--control PATH`: the served disks, driven over QMP, by any number of clients at once. */
import type { Server } from "node:net";
import { listenOnUnixSocket, QmpService } from "@heirloom/qmp";
import type { DiskServer, Runtime } from "@heirloom/runtime";
import { CommandError } from "../command-error.ts";
import type { ServedDisk } from "./serving.ts";

export interface ControlSocket {
  readonly path: string;
  /** Nobody new; who is there goes on, and hears how jobs end. */
  close(): void;
  /** Lets clients go. The runtime is closed. */
  end(): Promise<void>;
}

/** @param quit a client says that all of it shall end @throws CommandError */
export async function openControlSocket(
  path: string,
  serving: { readonly runtime: Runtime; readonly server: DiskServer; readonly disks: readonly ServedDisk[] },
  quit: () => void,
): Promise<ControlSocket> {
  const { runtime, server, disks } = serving;
  const adopted = {
    server,
    disks: disks.map(({ image, disk }) => ({
      disk,
      driver: image.spec?.driver ?? "file",
      file: image.spec === undefined ? image.path : undefined,
    })),
  };
  const service = new QmpService({ runtime, quit, adopted });
  await service.context(); // events of jobs are heard from here on
  let listener: Server;
  try {
    listener = await listenOnUnixSocket(path, (socket) => service.accept(socket));
  } catch (error) {
    throw new CommandError(`--control: ${(error as Error).message}`, hintsFor(error as Error), { cause: error });
  }
  return {
    path,
    close: () => void listener.close(),
    end: () => service.close(),
  };
}

function hintsFor({ message }: Error): readonly string[] {
  if (message.endsWith("Address already in use")) {
    return ["Somebody answers there: choose another --control, or stop whoever it is ('ss -lp' names it)."];
  }
  if (message.endsWith("No such file or directory")) {
    return ["Expected a directory that exists: make it, or choose another --control."];
  }
  return ["Choose a --control where you may write."];
}
