/** Something that the user can put right: told in one sentence, without a stack. */
export class DemoError extends Error {
  override readonly name = "DemoError";
}
