/**
 * What a guest boots: Debian's kernel for virtual machines, unpacked from its package into a cache and never installed, and
 * an initial RAM disk with a static busybox and this directory's scripts.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { characterDevice, cpio, directory, program } from "./cpio.ts";

const metaPackage = "linux-image-cloud-amd64";
/** In the order in which they load; what the package does not have is built into its kernel. */
const modules = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"];

export interface GuestSystem {
  readonly kernel: string;
  readonly initrd: string;
}

/** The kernel from the cache, or from a Debian mirror; the RAM disk as the scripts are now, in `scratch`. */
export function guestSystem(scratch: string): GuestSystem {
  const cached = kernelDirectory();
  const initrd = join(scratch, "initrd");
  writeFileSync(initrd, ramDisk(join(cached, "modules")));
  return { kernel: join(cached, "vmlinuz"), initrd };
}

function ramDisk(moduleDirectory: string): Uint8Array {
  const here = (name: string): Uint8Array => readFileSync(new URL(name, import.meta.url));
  const present = modules.filter((name) => existsSync(join(moduleDirectory, `${name}.ko`)));
  return cpio([
    ...["bin", "dev", "mnt", "modules", "proc", "sys"].map(directory),
    // The kernel opens it for the first process before anything is mounted.
    characterDevice("dev/console", 5, 1),
    program("bin/busybox", readFileSync(busybox())),
    program("init", here("init.sh")),
    program("writer.sh", here("writer.sh")),
    program("modules/order", `${present.join(" ")}\n`),
    ...present.map((name) => program(`modules/${name}.ko`, readFileSync(join(moduleDirectory, `${name}.ko`)))),
  ]);
}

/** @throws Error where there is none that needs no libraries */
function busybox(): string {
  const found = execFileSync("sh", ["-c", "command -v busybox"], { encoding: "utf8" }).trim();
  // ELF's program header 3 (PT_INTERP) names the dynamic loader; a static program has none.
  if (readFileSync(found).includes("/lib64/ld-linux"))
    throw new Error(`${found} is not static: install busybox-static`);
  return found;
}

/** A directory with `vmlinuz` and `modules/`, of the newest kernel that the mirror has had when it was filled. */
function kernelDirectory(): string {
  const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "heirloom-test", metaPackage);
  if (!existsSync(cache)) {
    mkdirSync(join(cache, ".."), { recursive: true });
    const fresh = mkdtempSync(`${cache}-`);
    try {
      unpackKernel(fresh);
      // Whoever comes second keeps what the first one put there.
      if (!existsSync(cache)) renameSync(fresh, cache);
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  return cache;
}

function unpackKernel(into: string): void {
  const download = join(into, "download");
  mkdirSync(download);
  execFileSync("dpkg-deb", ["-x", downloadKernel(download), download]);
  const files = readdirSync(download, { recursive: true, encoding: "utf8" });
  const kernel = files.find((path) => basename(path).startsWith("vmlinuz-"));
  if (kernel === undefined) throw new Error(`${metaPackage} holds no vmlinuz`);
  renameSync(join(download, kernel), join(into, "vmlinuz"));
  mkdirSync(join(into, "modules"));
  for (const path of files) {
    const name = modules.find((module) => basename(path).replaceAll("-", "_").startsWith(`${module}.ko`));
    if (name !== undefined) writeFileSync(join(into, "modules", `${name}.ko`), plainModule(join(download, path)));
  }
  rmSync(download, { recursive: true });
}

/** From Debian 13 on modules are packed. */
function plainModule(path: string): Uint8Array {
  return path.endsWith(".xz") ? execFileSync("xz", ["-dc", path], { maxBuffer: 2 ** 26 }) : readFileSync(path);
}

/** The package that holds the kernel is the one that the meta package depends on. @returns its file */
function downloadKernel(into: string): string {
  // Where the lists are of another day, what they name may be gone.
  if (!tryDownload(into)) {
    spawnSync("apt-get", ["update", "-qq"]);
    if (!tryDownload(into)) throw new Error(`apt-get download: expected a kernel for ${metaPackage}`);
  }
  const file = readdirSync(into).find((name) => name.endsWith(".deb"));
  if (file === undefined) throw new Error("apt-get download: expected a .deb");
  return join(into, file);
}

function tryDownload(into: string): boolean {
  const depends = spawnSync("apt-cache", ["depends", metaPackage], { encoding: "utf8" });
  const name = /Depends: (linux-image-\S+)/.exec(depends.stdout ?? "")?.[1];
  if (name === undefined) return false;
  return spawnSync("apt-get", ["download", "-qq", name], { cwd: into }).status === 0;
}
