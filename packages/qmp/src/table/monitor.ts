/** The monitor itself. */
import {
  any,
  bool,
  command,
  type CommandTable,
  enumeration,
  int,
  list,
  optional,
  required,
  str,
  struct,
  type Struct,
} from "../schema/type.ts";

const capability = enumeration("QMPCapability", ["oob"], "what a client can ask for");

const version: Struct = struct("VersionInfo", "a version", {
  qemu: required(
    struct("VersionTriple", "three numbers", {
      major: required(int, "first"),
      minor: required(int, "second"),
      micro: required(int, "third"),
    }),
    "the version of QEMU whose protocol this is",
  ),
  package: required(str, "what answers, and its own version"),
});

export const monitorCommands: CommandTable = {
  qmp_capabilities: command({
    doc: "Ends the negotiation: the first command of a connection.",
    arguments: { enable: optional(list(capability), "capabilities to use") },
  }),
  "query-version": command({ doc: "Who answers.", result: version }),
  "query-commands": command({
    doc: "Commands that there are.",
    result: list(struct("CommandInfo", "a command", { name: required(str, "its name") })),
  }),
  "query-qmp-schema": command({
    doc: "Commands, events and their types, for programs.",
    result: list(
      struct("SchemaInfo", "a command, an event or a type", {
        name: required(str, "its name; of types, a number that means nothing"),
        "meta-type": required(
          enumeration(
            "SchemaMetaType",
            ["builtin", "enum", "array", "object", "alternate", "command", "event"],
            "what it is",
          ),
          "what it is; further members depend on it",
        ),
        features: optional(list(str), "unstable, deprecated"),
        "json-type": optional(str, "of a builtin: its type in JSON"),
        values: optional(list(str), "of an enum: its values", ["deprecated"]),
        members: optional(list(any), "of an enum, an object or an alternate"),
        "element-type": optional(str, "of an array"),
        tag: optional(str, "of an object with variants: the member that says which"),
        variants: optional(list(any), "of an object: more members"),
        "arg-type": optional(str, "of a command or an event"),
        "ret-type": optional(str, "of a command"),
        "allow-oob": optional(bool, "of a command: never"),
      }),
    ),
  }),
  quit: command({ doc: "Ends the daemon: jobs are cancelled, exports and nodes closed." }),
};
