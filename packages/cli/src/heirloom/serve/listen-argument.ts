/** `--listen HOST:PORT` */
import { isIPv6 } from "node:net";
import { UsageError } from "../command-error.ts";

export interface TcpAddress {
  readonly host: string;
  /** NBD's own where it is not given. */
  readonly port: number | undefined;
}

const SHAPE = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d{1,9}))?$/;

/** "127.0.0.1:10809", "[::1]:0", "*" (all interfaces). Port 0 is any that is free. */
export function parseListen(text: string): TcpAddress {
  const shape = SHAPE.exec(text);
  const host = shape?.[1] ?? shape?.[2] ?? "";
  if (shape === null || host === "") {
    throw new UsageError(`'${text}' is no address; expected HOST:PORT, as in 127.0.0.1:10809, [::1]:10809 or *:10809`);
  }
  if (shape[1] !== undefined && !isIPv6(shape[1])) throw new UsageError(`'[${host}]' is no IPv6 address`);
  const port = shape[3] === undefined ? undefined : Number(shape[3]);
  if (port !== undefined && port > 65535)
    throw new UsageError(`the port ${shape[3]} is none; expected 1 to 65535, or 0 for any that is free`);
  return { host: host === "*" ? "::" : host, port };
}

/** Whether only this machine reaches it. */
export function isLoopback({ host }: { readonly host: string }): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
