/** Text that a server sent, made fit for a message that somebody reads on a terminal. */

const decoder = new TextDecoder();

// Control characters, and those that turn the direction of the text around them.
// oxlint-disable-next-line no-control-regex -- they are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** What is no UTF-8 and what would move a cursor becomes U+FFFD; spaces at the ends go. */
export function plainText(bytes: Uint8Array): string {
  return decoder.decode(bytes).replaceAll(UNPRINTABLE, "\ufffd").trim();
}
