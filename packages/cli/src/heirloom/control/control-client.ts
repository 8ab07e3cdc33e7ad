/** A connection to who is driven. What is refused comes back as an error that names the next step. */
import { type QmpAddress, QmpClient, type QmpCommands, QmpConnectionLost, QmpError } from "@heirloom/qmp";
import { CommandError } from "../command-error.ts";
import { quoted } from "../shell-words.ts";
import { type ControlFlags, controlPath } from "./control-flags.ts";
import { nextSteps, type Subject } from "./next-steps.ts";

const CONNECT_MS = 3000;

export class ControlClient {
  readonly path: string;
  readonly qmp: QmpClient;

  private constructor(path: string, qmp: QmpClient) {
    this.path = path;
    this.qmp = qmp;
  }

  /** @throws CommandError */
  static async connect(flags: ControlFlags): Promise<ControlClient> {
    const path = controlPath(flags);
    try {
      return new ControlClient(path, await QmpClient.connect(addressOf(path), { connectTimeoutMs: CONNECT_MS }));
    } catch (error) {
      throw unreachable(path, error as NodeJS.ErrnoException);
    }
  }

  /** @param about what the command is about, for what to do where it is refused @throws CommandError */
  async run<Name extends keyof QmpCommands>(
    command: Name,
    args: QmpCommands[Name]["arguments"],
    about: Subject = {},
  ): Promise<QmpCommands[Name]["result"]> {
    try {
      return await this.qmp.executeAny(command, args as never);
    } catch (error) {
      if (error instanceof QmpConnectionLost) throw lost(this.path, error);
      if (!(error instanceof QmpError)) throw error;
      throw new CommandError(error.desc, await nextSteps(this.qmp, error, about), { cause: error });
    }
  }

  close(): void {
    this.qmp.close();
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

function addressOf(path: string): QmpAddress {
  return { path };
}

export function lost(path: string, cause: Error): CommandError {
  return new CommandError(
    `the connection to '${path}' was lost: who answered there has ended`,
    ["What was asked for may have been done, or not."],
    { cause },
  );
}

function unreachable(path: string, error: NodeJS.ErrnoException): CommandError {
  const start = `Start one: heirloom serve IMAGE --control ${quoted(path)}; or name another: --control PATH, HEIRLOOM_CONTROL.`;
  switch (error.code) {
    case "ENOENT":
      return new CommandError(`there is no socket '${path}'`, [start], { cause: error });
    case "ECONNREFUSED":
      return new CommandError(`nobody listens on '${path}' any more`, [start], { cause: error });
    case "EACCES":
      return new CommandError(
        `'${path}' belongs to somebody else`,
        ["Control sockets are for their owner alone: run it as that user."],
        { cause: error },
      );
    case "ENOTSOCK":
      return new CommandError(`'${path}' is no socket`, [start], { cause: error });
    default:
      break;
  }
  if (error instanceof QmpConnectionLost) {
    return new CommandError(
      `'${path}' does not greet`,
      [
        "A monitor has one client at a time, and another may have this one: wait for it, or give the daemon a second --monitor.",
        "Or who listens there does not speak QMP.",
      ],
      { cause: error },
    );
  }
  return new CommandError(`connect to '${path}': ${error.message}`, [start], { cause: error });
}
