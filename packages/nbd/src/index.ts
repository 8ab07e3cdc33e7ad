export * from "./protocol/constants.ts";
