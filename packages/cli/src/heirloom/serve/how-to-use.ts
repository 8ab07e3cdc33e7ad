/** What to do with an export: commands to paste, for the programs that put disks on NBD or read from it. */
import type { BoundAddress } from "@heirloom/nbd";
import { qemuValue, quoted } from "../shell-words.ts";

export interface UsableExport {
  readonly name: string;
  readonly uri: string;
  readonly address: BoundAddress;
  readonly writable: boolean;
  readonly bitmap: string | undefined;
}

export interface Use {
  readonly what: string;
  readonly commands: readonly string[];
}

export function howToUse(exported: UsableExport): readonly Use[] {
  const { name, uri, writable, bitmap } = exported;
  const server = serverOptions(exported.address);
  const readOnly = writable ? "" : ",read-only=on";
  const uses: Use[] = [
    {
      what: "QEMU",
      commands: [
        `qemu-system-x86_64 ... -drive ${quoted(`file=${qemuValue(uri)},format=raw,if=virtio${readOnly}`)}`,
        `  or -blockdev ${quoted(`driver=nbd,node-name=disk,${server},export=${qemuValue(name)}${readOnly}`)} -device virtio-blk-pci,drive=disk`,
      ],
    },
    {
      what: "Firecracker, Cloud Hypervisor, and whatever takes a block device (as root)",
      commands: [
        `modprobe nbd && nbd-client ${clientAddress(exported.address)} -N ${quoted(name)}${writable ? "" : " -R"} /dev/nbd0`,
        `  then "path_on_host": "/dev/nbd0", or --disk path=/dev/nbd0; nbd-client -d /dev/nbd0 ends it`,
      ],
    },
    {
      what: "A copy, a look, a measurement",
      commands: [
        `qemu-img convert -f raw -O qcow2 ${quoted(uri)} copy.qcow2`,
        `nbdcopy ${quoted(uri)} copy.raw`,
        `nbdinfo --map ${quoted(uri)}`,
        `fio --name=read --ioengine=nbd --uri=${quoted(uri)} --rw=randread --bs=4k --iodepth=32 --time_based --runtime=10`,
      ],
    },
  ];
  if (bitmap !== undefined) {
    const context = `qemu:dirty-bitmap:${bitmap}`;
    const options = `driver=nbd,${server},export=${qemuValue(name)},x-dirty-bitmap=${qemuValue(context)}`;
    uses.push({
      what: `What bitmap ${bitmap} says, and a backup of it`,
      commands: [
        `nbdinfo --map=${quoted(context)} ${quoted(uri)}`,
        `qemu-img map --output=json --image-opts ${quoted(options)}    ("data": false is dirty)`,
        `heirloom pull ${quoted(uri)} changes.raw --bitmap ${quoted(bitmap)}`,
      ],
    });
  }
  return uses;
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
