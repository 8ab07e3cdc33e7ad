/** What to do with an export: commands to paste, for the programs that put disks on NBD or read from it. */
import { type BoundAddress, formatNbdUri, type NbdUriTls, parseNbdUri } from "@heirloom/nbd";
import { qemuValue, quoted } from "../shell-words.ts";

export interface UsableExport {
  readonly name: string;
  readonly uri: string;
  readonly address: BoundAddress;
  readonly writable: boolean;
  readonly bitmap: string | undefined;
  readonly tls: "x509" | "psk" | undefined;
}

export interface Use {
  readonly what: string;
  readonly commands: readonly string[];
}

/** What the client has, and we cannot know: its directory or file of credentials. */
const CLIENT_TLS: Readonly<
  Record<"x509" | "psk", { readonly uri: NbdUriTls; readonly object: string; readonly nbdClient: string }>
> = {
  x509: {
    uri: { certificates: "CLIENT-CREDS" },
    object: "tls-creds-x509,id=tls,endpoint=client,dir=CLIENT-CREDS",
    nbdClient: " -certfile client-cert.pem -keyfile client-key.pem -cacertfile ca-cert.pem",
  },
  psk: {
    uri: { username: "USER", pskFile: "KEYS.PSK" },
    object: "tls-creds-psk,id=tls,endpoint=client,dir=DIR-OF-KEYS.PSK,username=USER",
    nbdClient: "",
  },
};

export function howToUse(exported: UsableExport): readonly Use[] {
  const { writable, bitmap, tls } = exported;
  const uri = quoted(
    tls === undefined ? exported.uri : formatNbdUri({ ...parseNbdUri(exported.uri), tls: CLIENT_TLS[tls].uri }),
  );
  const uses: Use[] = [
    { what: "QEMU", commands: qemuCommands(exported) },
    {
      what: "A copy, a look, a measurement",
      commands: [
        imageCommand(exported, "convert", "-O qcow2", "copy.qcow2"),
        `nbdcopy ${uri} copy.raw`,
        `nbdinfo --map ${uri}`,
        `fio --name=read --ioengine=nbd --uri=${uri} --rw=randread --bs=4k --iodepth=32 --time_based --runtime=10`,
      ],
    },
  ];
  // The kernel's client has no pre-shared keys.
  if (tls !== "psk")
    uses.splice(1, 0, kernelUse(exported, tls === undefined ? "" : CLIENT_TLS[tls].nbdClient, writable));
  if (bitmap !== undefined) {
    const context = `qemu:dirty-bitmap:${bitmap}`;
    uses.push({
      what: `What bitmap ${bitmap} says, and a backup of it`,
      commands: [
        `nbdinfo --map=${quoted(context)} ${uri}`,
        `${imageCommand(exported, "map", "--output=json", "", `,x-dirty-bitmap=${qemuValue(context)}`)}   ("data": false is dirty)`,
        `heirloom pull ${uri} changes.raw --bitmap ${quoted(bitmap)}`,
      ],
    });
  }
  return uses;
}

function qemuCommands(exported: UsableExport): readonly string[] {
  const { uri, writable, tls } = exported;
  const readOnly = writable ? "" : ",read-only=on";
  const object = tls === undefined ? "" : `-object ${CLIENT_TLS[tls].object} `;
  const device = "-device virtio-blk-pci,drive=disk";
  const node = `-blockdev ${quoted(`node-name=disk,${nodeOptions(exported)}${readOnly}`)} ${device}`;
  // A drive's URI cannot name credentials.
  if (tls !== undefined) return [`qemu-system-x86_64 ... ${object}${node}`];
  return [
    `qemu-system-x86_64 ... -drive ${quoted(`file=${qemuValue(uri)},format=raw,if=virtio${readOnly}`)}`,
    `  or ${node}`,
  ];
}

function kernelUse({ address, name }: UsableExport, tls: string, writable: boolean): Use {
  return {
    what: "Firecracker, Cloud Hypervisor, and whatever takes a block device (as root)",
    commands: [
      `modprobe nbd && nbd-client ${clientAddress(address)} -N ${quoted(name)}${writable ? "" : " -R"}${tls} /dev/nbd0`,
      `  then "path_on_host": "/dev/nbd0", or --disk path=/dev/nbd0; nbd-client -d /dev/nbd0 ends it`,
    ],
  };
}

/** With a URI where that says everything. */
function imageCommand(exported: UsableExport, command: string, options: string, target: string, more = ""): string {
  const { uri, tls } = exported;
  const object = tls === undefined ? "" : `--object ${CLIENT_TLS[tls].object} `;
  const image =
    tls === undefined && more === ""
      ? `-f raw ${options} ${quoted(uri)}`
      : `${object}--image-opts ${options} ${quoted(nodeOptions(exported) + more)}`;
  return `qemu-img ${command} ${image} ${target}`.trimEnd();
}

function nodeOptions({ address, name, tls }: UsableExport): string {
  const credentials = tls === undefined ? "" : ",tls-creds=tls";
  return `driver=nbd,${serverOptions(address)},export=${qemuValue(name)}${credentials}`;
}

function serverOptions(address: BoundAddress): string {
  if ("path" in address) return `server.type=unix,server.path=${qemuValue(address.path)}`;
  return `server.type=inet,server.host=${qemuValue(reachable(address.host))},server.port=${address.port}`;
}

function clientAddress(address: BoundAddress): string {
  return "path" in address ? `-unix ${quoted(address.path)}` : `${quoted(reachable(address.host))} ${address.port}`;
}

function reachable(host: string): string {
  return host === "::" || host === "0.0.0.0" ? "localhost" : host;
}
