/**
 * A machine drawn as a Mermaid state diagram, from its definition and nothing else: the same definition always gives the
 * same text, so that documents can be checked against it.
 */
import type { AnyStateMachine } from "xstate";

/**
 * @example
 * ```ts
 * import { jobMachine, toMermaid } from "@heirloom/runtime";
 * toMermaid(jobMachine).startsWith("stateDiagram-v2"); // true
 * ```
 */
export function toMermaid(machine: { readonly logic: AnyStateMachine }): string {
  const { root } = machine.logic;
  const lines = ["stateDiagram-v2"];
  for (const target of root.initial.target ?? []) lines.push(`  [*] --> ${target.key}`);
  for (const state of Object.values(root.states)) {
    for (const edge of state.always ?? []) lines.push(...arrows(state.key, edge, ""));
    for (const edges of state.transitions.values()) {
      for (const edge of edges) lines.push(...arrows(state.key, edge, String(edge.eventType)));
    }
    if (state.type === "final") lines.push(`  ${state.key} --> [*]`);
  }
  return `${lines.join("\n")}\n`;
}

interface Edge {
  readonly target: ReadonlyArray<{ readonly key: string }> | undefined;
  readonly guard?: unknown;
}

/** A transition without a target stays where it is. */
function arrows(from: string, edge: Edge, event: string): readonly string[] {
  const targets = edge.target === undefined ? [from] : edge.target.map((target) => target.key);
  const guard = typeof edge.guard === "string" ? `[${edge.guard}]` : "";
  const label = [event, guard].filter((part) => part !== "").join(" ");
  return targets.map((target) => `  ${from} --> ${target}${label === "" ? "" : ` : ${label}`}`);
}
