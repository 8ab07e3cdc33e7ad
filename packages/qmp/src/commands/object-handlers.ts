import type { Handlers } from "../server/command-set.ts";
import type { JsonValue } from "../wire/json-value.ts";
import type { CommandContext } from "./context.ts";

type Family = Pick<Handlers, "object-add" | "object-del" | "qom-list" | "qom-get" | "qom-set">;

export function objectHandlers({ objects }: CommandContext): Family {
  return {
    "object-add": (options) => {
      objects.add(options);
      return {};
    },
    "object-del": ({ id }) => {
      objects.remove(id);
      return {};
    },
    "qom-list": ({ path }) => objects.listProperties(path),
    "qom-get": ({ path, property }) => objects.get(path, property),
    "qom-set": ({ path, property, value }) => {
      objects.set(path, property, value as JsonValue);
      return {};
    },
  };
}
