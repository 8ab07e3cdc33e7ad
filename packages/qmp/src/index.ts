export {
  type QmpAddress,
  QmpClient,
  type QmpClientEvent,
  type QmpClientOptions,
  QmpConnectionLost,
} from "./client/qmp-client.ts";
export type { CommandContext, Emit, Exclusive } from "./commands/context.ts";
export type { Adopted } from "./commands/make-context.ts";
export type * from "./generated/qmp-types.ts";
export type { GraphNode } from "./graph/graph-node.ts";
export { isIdentifier } from "./graph/node-name.ts";
export { QmpError, type QmpErrorClass } from "./qmp-error.ts";
export { readArguments } from "./schema/read-value.ts";
export { CommandSet, type CommandName, type Handler, type Handlers } from "./server/command-set.ts";
export { Monitor, type MonitorLog, monitorSocketOptions } from "./server/monitor.ts";
export { bindUnixSocket, errnoSentence, listenOnUnixSocket } from "./server/unix-listener.ts";
export { type MonitorOptions, QmpService, type QmpServiceOptions } from "./service.ts";
export { chapters, commands, events } from "./table/command-table.ts";
export { nbdServerOptions } from "./table/exports.ts";
export { JsonReader } from "./wire/json-reader.ts";
export type { JsonObject, JsonValue, Writable } from "./wire/json-value.ts";
export { writeJson } from "./wire/json-writer.ts";
