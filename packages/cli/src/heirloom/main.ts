#!/usr/bin/env node
/** The command `heirloom`. Exit status: 0, 1 after a failure, 2 where the command line makes no sense. */
import { ExitCode, run, type StricliProcess } from "@stricli/core";
import { application } from "./application.ts";
import { EXIT_FAILURE, EXIT_USAGE } from "./command-error.ts";

await run(application, process.argv.slice(2), { process: process as StricliProcess });
const code = Number(process.exitCode ?? 0);
// A check says 2 where something is damaged, as qemu-img's does.
const isCheck = process.argv[2] === "journal" && process.argv[3] === "check";
if (code === ExitCode.InvalidArgument || code === ExitCode.UnknownCommand)
  process.exitCode = isCheck ? EXIT_FAILURE : EXIT_USAGE;
else if (code < 0) process.exitCode = EXIT_FAILURE;
