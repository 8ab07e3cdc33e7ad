export * from "./protocol/constants.ts";
export { NbdError } from "./protocol/nbd-error.ts";
export type { NbdErrorCode, NbdErrorDetails } from "./protocol/nbd-error.ts";
export { formatNbdUri, NBD_PORT, parseNbdUri } from "./protocol/uri.ts";
export type { NbdAddress, NbdUri, NbdUriTls } from "./protocol/uri.ts";
export { ClientHandshake } from "./client/handshake.ts";
export type {
  Agreement,
  ExportDescription,
  HandshakeAction,
  HandshakeResult,
  HandshakeWish,
  ListedExport,
} from "./client/handshake.ts";
export { NbdClient } from "./client/nbd-client.ts";
export type {
  NbdClientOptions,
  NbdExtent,
  NbdFeatures,
  RequestOptions,
  WriteOptions,
  WriteZeroesOptions,
} from "./client/nbd-client.ts";
export { readTlsFiles } from "./client/tls-credentials.ts";
export type { NbdTls } from "./client/tls-credentials.ts";
export { ListenError } from "./server/listen-error.ts";
export type { ListenErrorCode } from "./server/listen-error.ts";
export type { BoundAddress, ListenAddress } from "./server/listener.ts";
export { NbdServer } from "./server/nbd-server.ts";
export type { NbdExportSpec, NbdServerEvent, NbdServerOptions } from "./server/nbd-server.ts";
export type { TrafficCounts } from "./session/traffic.ts";
export { NbdServerError } from "./server/nbd-server-error.ts";
export type { NbdServerErrorCode } from "./server/nbd-server-error.ts";
export { interruptNbd, nbdDriver, nbdNode } from "./client/nbd-node.ts";
export { startNbdTls } from "./client/tls-service.ts";
export type { NbdNodeOptions } from "./client/nbd-node.ts";
export { bitmapContext, dirtyExtents, pull } from "./client/pull.ts";
export type { PullOptions, PullProgress, PullResult, PullSink } from "./client/pull.ts";
export type { TlsPeer, TlsStarter } from "./server/negotiation.ts";
export { tlsStarter } from "./server/tls-starter.ts";
export type { ServerTls } from "./server/tls-starter.ts";
export { loadPskCredentials, loadX509Credentials, x509Credentials } from "./tls/credentials.ts";
export type { Endpoint, PskCredentials, TlsCredentials, X509Credentials } from "./tls/credentials.ts";
export { TlsError } from "./tls/tls-error.ts";
export type { TlsErrorCode } from "./tls/tls-error.ts";
export { startTlsTunnel, TunnelThread } from "./tls/tunnel.ts";
export type { Tunnel, TunnelRequest } from "./tls/tunnel.ts";
