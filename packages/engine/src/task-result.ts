/** Answers of helpers: values, since an error that crosses threads loses its class and fields. */
import { BlockError, type BlockErrorFields } from "@heirloom/block";
import { EngineError, type EngineErrorCode } from "./engine-error.ts";

export type TaskResult<Value> =
  | { readonly value: Value }
  | { readonly block: BlockErrorFields }
  | { readonly engine: { readonly code: EngineErrorCode; readonly message: string } };

/** On the helper: runs `work` and makes a value of whatever it throws. */
export async function asResult<Value>(work: () => Value | Promise<Value>): Promise<TaskResult<Value>> {
  try {
    return { value: await work() };
  } catch (error) {
    if (error instanceof BlockError) return { block: error.fields() };
    if (error instanceof EngineError) return { engine: { code: error.code, message: error.message } };
    return { engine: { code: "ERR_HELPER", message: error instanceof Error ? error.message : String(error) } };
  }
}

/** On the main thread: the value, or the error that it stood for. */
export function unwrap<Value>(result: TaskResult<Value>): Value {
  if ("value" in result) return result.value;
  if ("block" in result) throw BlockError.from(result.block);
  throw new EngineError(result.engine.code, result.engine.message);
}
