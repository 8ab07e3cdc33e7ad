/** Writes what is generated from the table of commands: types and the reference page. */
import { writeFileSync } from "node:fs";
import { generateReference } from "../dist/schema/reference-page.js";
import { generateTypes } from "../dist/schema/typescript.js";
import { chapters, commands, events } from "../dist/table/command-table.js";

writeFileSync(new URL("../src/generated/qmp-types.ts", import.meta.url), generateTypes(commands, events));
writeFileSync(new URL("../REFERENCE.md", import.meta.url), generateReference(chapters, events));
