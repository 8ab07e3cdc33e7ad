/** What devices and images are called, and where their sidecars lie by it. */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { nameOfDevice, sidecarOfDevice, sidecarOfFile, sidecarPath } from "./identity.ts";

let place: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "heirloom-identity-"));
});
afterEach(() => rmSync(place, { recursive: true }));

/** A device as sysfs shows it. */
function sysfs(path: string, attributes: Readonly<Record<string, string>>): string {
  for (const [name, value] of Object.entries(attributes)) {
    const file = join(place, path, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${value}\n`);
  }
  return join(place, path);
}

describe("a device is known by what stays when its number changes", () => {
  const cases: readonly (readonly [what: string, attributes: Readonly<Record<string, string>>, name: string])[] = [
    ["a logical volume", { "dm/uuid": "LVM-Ab3", "dm/name": "vg0-vm1" }, "dm LVM-Ab3"],
    ["a disk with a WWN", { "device/wwid": "naa.5000c500", "device/serial": "S1" }, "device naa.5000c500"],
    ["an NVMe namespace", { wwid: "eui.0025385" }, "eui.0025385"],
    ["an array", { "md/uuid": "a1:b2" }, "md a1:b2"],
    ["a virtio disk", { serial: "disk-7" }, "disk-7"],
  ];
  for (const [what, attributes, name] of cases) {
    it(what, () => {
      expect(nameOfDevice(sysfs("devices/one", attributes))).toBe(name);
    });
  }

  it("a partition is known by its disk and its number", () => {
    sysfs("devices/sda", { "device/wwid": "naa.5" });
    sysfs("devices/sda/sda2", { partition: "2" });
    mkdirSync(join(place, "block"));
    const link = join(place, "block", "8:2");
    symlinkSync("../devices/sda/sda2", link);
    expect(nameOfDevice(link)).toBe("device naa.5 partition 2");
  });

  it("one without any such name has none", () => {
    expect(nameOfDevice(sysfs("devices/ram0", { size: "100" }))).toBeUndefined();
  });
});

it("names become names of files", () => {
  expect(sidecarOfDevice("dm LVM-Ab3/../x y")).toBe("dm_LVM-Ab3_.._x_y.heirloom");
  expect(sidecarOfFile("/images/50%/vm.raw")).toBe("images%2F50%25%2Fvm.raw.heirloom");
  // One by one for different paths, and never longer than a file system takes, with `.new` behind it.
  const long = ["a", "b"].map((letter) => sidecarOfFile(`/${letter}${"ä".repeat(300)}/vm.raw`));
  expect(long[0]).not.toBe(long[1]);
  for (const name of long) {
    expect(Buffer.byteLength(`${name}.new`)).toBeLessThanOrEqual(255);
    expect(name).toMatch(/%2Fvm\.raw-[0-9a-f]{32}\.heirloom$/);
  }
});

it("a sidecar lies beside the image itself, whatever link leads there; or in a directory", () => {
  const image = join(place, "vm.raw");
  const link = join(place, "link.raw");
  writeFileSync(image, "");
  symlinkSync(image, link);
  expect(sidecarPath(link)).toBe(`${image}.heirloom`);
  expect(sidecarPath(link, "/srv/sidecars")).toBe(`/srv/sidecars/${image.slice(1).replaceAll("/", "%2F")}.heirloom`);
});

it("a loop device is known by its file: the sidecar is the same under another number", (context) => {
  const backing = join(place, "backing");
  writeFileSync(backing, "");
  truncateSync(backing, 2 ** 20);
  const devices = ["first", "second"].map(() =>
    spawnSync("losetup", ["-f", "--show", backing], { encoding: "utf8" }).stdout?.trim(),
  );
  try {
    // Not a failure in CI: containers there have no loop devices, whatever is installed.
    if (devices.some((device) => device === undefined || device === "" || !existsSync(device)))
      context.skip("no loop devices here (they need root and the loop module)");
    const [first, second] = devices.map((device) => sidecarPath(device));
    expect(devices[0]).not.toBe(devices[1]);
    expect(first).toBe(second);
    expect(first).toMatch(
      new RegExp(`^/var/lib/heirloom/loop_on_inode_${statSync(backing).ino}_born_\\d+\\.heirloom$`),
    );
    expect(sidecarPath(devices[0], "/srv")).toBe(first.replace("/var/lib/heirloom", "/srv"));
  } finally {
    for (const device of devices) if (device !== undefined && device !== "") spawnSync("losetup", ["-d", device]);
  }
});
