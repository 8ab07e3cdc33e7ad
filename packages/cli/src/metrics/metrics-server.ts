/**
 * Metrics for Prometheus, over HTTP on a Unix socket of the owner's alone, or on a port of this machine alone: they have no
 * access control of their own, and names of disks and bitmaps are nobody else's business.
 */
import type { Server } from "node:http";
import { isIPv6 } from "node:net";
import type { Runtime } from "@heirloom/runtime";

export type MetricsAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Why a text is no address; what is expected is the caller's to say. */
export class MetricsAddressError extends Error {
  override readonly name: string = "MetricsAddressError";
}

/** A path, or HOST:PORT of this machine. @throws MetricsAddressError */
export function parseMetricsAddress(text: string): MetricsAddress {
  const shape = /^(?:\[([^\]]*)\]|([^:/]+)):(\d{1,5})$/.exec(text);
  if (shape === null) {
    if (text === "") throw new MetricsAddressError("expected PATH or HOST:PORT, and it is empty");
    return { path: text.startsWith("unix:") ? text.slice("unix:".length) : text };
  }
  const host = shape[1] ?? shape[2];
  const port = Number(shape[3]);
  if (port > 65535)
    throw new MetricsAddressError(`the port ${port} is none; expected 1 to 65535, or 0 for any that is free`);
  const loopback = host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
  if (shape[1] !== undefined && !isIPv6(host)) throw new MetricsAddressError(`'[${host}]' is no IPv6 address`);
  if (loopback) return { host, port };
  throw new MetricsAddressError(
    `'${host}' can be reached from other machines, and metrics have no access control; expected 127.0.0.1, [::1] or a path`,
  );
}

export interface MetricsServer {
  /** "unix:PATH", or the URL. */
  readonly where: string;
  close(): void;
}

/** @param runtime undefined while there is none yet: asking must not make one @throws Error of the system */
export async function serveMetrics(
  address: MetricsAddress,
  version: string,
  runtime: () => Promise<Runtime> | undefined,
): Promise<MetricsServer> {
  const [{ createServer }, { CONTENT_TYPE, Exposition }] = await Promise.all([
    import("node:http"),
    import("./exposition.ts"),
  ]);
  const text = async (): Promise<string> => {
    const made = await runtime();
    if (made !== undefined) return (await import("./collect.ts")).collect(made, version);
    const out = new Exposition();
    (await import("./process-metrics.ts")).processMetrics(out, version);
    return out.text;
  };
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    if (request.url !== "/metrics" && request.url !== "/") {
      response.writeHead(404).end("there is only /metrics\n");
      return;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end();
      return;
    }
    text().then(
      (body) => response.writeHead(200, { "content-type": CONTENT_TYPE }).end(body),
      (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
    );
  });
  server.maxConnections = 16;
  const where = await listen(server, address);
  server.unref(); // metrics keep nobody alive
  return {
    where,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function listen(server: Server, address: MetricsAddress): Promise<string> {
  if ("path" in address) {
    const { bindUnixSocket } = await import("@heirloom/qmp");
    await bindUnixSocket(server, address.path);
    return `unix:${address.path}`;
  }
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(address.port, address.host, resolve);
  });
  const bound = server.address() as { address: string; port: number; family: string };
  return `http://${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}/metrics`;
}
