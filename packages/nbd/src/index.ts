export * from "./protocol/constants.ts";
export type { BlockSize, ExportDirectory, ExportOffer, Negotiated, SelectedContext } from "./server/export-offer.ts";
export { ListenError, type ListenErrorCode } from "./server/listen-error.ts";
export type { BoundAddress, ListenAddress } from "./server/listener.ts";
export type { NegotiationEndCode, NewSession, TlsPeer, TlsStarter } from "./server/negotiation.ts";
export { Reception, type ReceptionOptions, type Refused } from "./server/reception.ts";
export { type ServerTls, tlsStarter } from "./server/tls-starter.ts";
export {
  type Endpoint,
  loadPskCredentials,
  loadX509Credentials,
  type PskCredentials,
  type TlsCredentials,
  x509Credentials,
  type X509Credentials,
} from "./tls/credentials.ts";
export { TlsError, type TlsErrorCode } from "./tls/tls-error.ts";
export { startTlsTunnel, type Tunnel, type TunnelRequest, TunnelThread } from "./tls/tunnel.ts";
