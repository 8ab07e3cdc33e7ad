/** `npm run example NAME`: runs one, or says which there are. */
import { existsSync, readdirSync } from "node:fs";

const [name] = process.argv.splice(2, 1);
const program = (example) => new URL(`${example}/dist/main.js`, import.meta.url);
const names = readdirSync(new URL(".", import.meta.url)).filter((example) => existsSync(program(example)));
if (name !== undefined && names.includes(name)) await import(program(name).href);
else {
  console.error(`npm run example: expected one of ${names.join(", ")}`);
  process.exitCode = 1;
}
