/** A process that exits while its threads load native code ends as it was told, and not by an abort. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

/** Each thread loads for some 20 ms, some 40 ms after its start; busy machines take longer. */
const afterMs = [0, 20, 30, 40, 50, 60, 70, 80, 100, 130, 170, 220];

test.each(afterMs)("process.exit %i ms after threads were asked for", async (delay) => {
  const program = `
    import { Engine } from "@heirloom/engine";
    const engine = new Engine();
    for (let count = 0; count < 4; count++) void engine.openNode({ driver: "memory", size: 512 });
    setTimeout(() => process.exit(7), ${delay});`;
  const exit = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    timeout: 30_000,
  }).catch((error: unknown) => error);
  expect(exit).toMatchObject({ code: 7, signal: null });
});
