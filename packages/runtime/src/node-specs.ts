/**
 * Specifications as block has them: drivers that users name and block does not know are modules of other packages, and an
 * NBD export behind TLS is reached through a relay, since the threads of a node have no event loop.
 */
import type { NodeSpec } from "@heirloom/block";
import { nbdDriver, type NbdUri, parseNbdUri, readTlsFiles, TlsRelay } from "@heirloom/nbd";
import { Disk } from "./disk.ts";

export class NodeSpecs {
  /** By what they connect to; each for as long as the runtime lives, so that one export is one disk. */
  readonly #relays = new Map<string, Promise<TlsRelay>>();

  /** @throws NbdError */
  async resolve(spec: NodeSpec): Promise<NodeSpec> {
    const resolved = spec.driver === "nbd" ? await this.#nbd(spec) : spec;
    const { file } = resolved;
    const under = typeof file === "object" && file !== null && !(file instanceof Disk) && "driver" in file;
    return under ? { ...resolved, file: await this.resolve(file as NodeSpec) } : resolved;
  }

  /** The connections of nodes that are still open break. */
  async close(): Promise<void> {
    const relays = await Promise.allSettled(this.#relays.values());
    this.#relays.clear();
    for (const relay of relays) if (relay.status === "fulfilled") await relay.value.close();
  }

  async #nbd(spec: NodeSpec): Promise<NodeSpec> {
    const uri = typeof spec.uri === "string" ? parseNbdUri(spec.uri) : undefined;
    if (uri?.tls === undefined) return { ...spec, driver: nbdDriver };
    const { path } = await this.#relayTo(uri);
    const relayed = { ...spec, driver: nbdDriver, uri: undefined, path };
    return uri.exportName === "" ? relayed : { ...relayed, export: uri.exportName };
  }

  #relayTo({ address, tls = {} }: NbdUri): Promise<TlsRelay> {
    const key = JSON.stringify([address, tls]);
    let relay = this.#relays.get(key);
    if (relay === undefined) {
      relay = TlsRelay.open({ address, tls: readTlsFiles(tls) });
      this.#relays.set(key, relay);
      relay.catch(() => this.#relays.delete(key));
    }
    return relay;
  }
}
