import { describe, expect, test } from "vitest";
import {
  accepted,
  HeirloomError,
  invariant,
  InvariantError,
  refusal,
  refused,
  RefusalError,
  unwrap,
} from "./errors.ts";

describe("errors", () => {
  test("a refusal is thrown with its operation first, its text apart and its code stable", () => {
    const reason = refusal("ERR_JOB_NOT_FOUND", "Job not found", { job: "j" });
    expect(unwrap("job cancel", accepted(5))).toBe(5);
    let thrown: unknown;
    try {
      unwrap("job cancel", refused(reason));
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(RefusalError);
    expect(thrown).toBeInstanceOf(HeirloomError);
    expect(thrown).toMatchObject({
      name: "RefusalError",
      code: "ERR_JOB_NOT_FOUND",
      operation: "job cancel",
      desc: "Job not found",
      message: "job cancel: Job not found",
      fields: { job: "j" },
    });
  });

  test("a cause is kept, and there is none where none was given", () => {
    const cause = new Error("below");
    expect(new HeirloomError("E", "o", "d", { cause }).cause).toBe(cause);
    expect("cause" in new HeirloomError("E", "o", "d")).toBe(false);
  });

  test("a bug is an assertion", () => {
    expect(() => invariant(false, "two is even")).toThrow(InvariantError);
    expect(() => invariant(true, "two is even")).not.toThrow();
  });
});
