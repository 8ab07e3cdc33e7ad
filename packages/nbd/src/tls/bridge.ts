/**
 * Carries bytes between a TLS connection and the plaintext end of a socket pair, both ways, each at the pace of who reads
 * it. An end in one direction is passed on and leaves the other open: TLS ends with close_notify, the pair with a
 * shutdown. An error on either side ends both.
 *
 * Whoever has the other end of the pair may close it without reading to the end; then there is nobody to carry to. Node
 * does not say so of a socket that has ended already, so poll is asked, once a second while only one direction is open.
 * What is on its way to the peer still gets there, if the peer reads, and the peer then has a moment to end its side, so
 * that what was sent last is not lost to a reset.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { pollDescriptor, POLLHUP } from "@heirloom/block";

const HALF_OPEN_CHECK_MS = 1_000;
const LINGER_MS = 2_000;
/** For a peer that does not read what is on its way to it when nobody is behind us any more. */
const FLUSH_MS = 30_000;

/** @param plainFd the descriptor of `plain` @param onDown when both are closed */
export function bridge(secure: TLSSocket, plain: Socket, plainFd: number, onDown: () => void): void {
  let check: NodeJS.Timeout | undefined;
  let last: NodeJS.Timeout | undefined;
  let open = 2;

  const destroy = (): void => {
    secure.destroy();
    plain.destroy();
  };
  const destroyIn = (delayMs: number): void => {
    clearTimeout(last);
    last = setTimeout(destroy, delayMs);
  };
  const lookForNobody = (): void => {
    if (plain.destroyed || (pollDescriptor(plainFd, 0, 0) & POLLHUP) === 0) return;
    clearInterval(check);
    if (secure.writableFinished) return destroyIn(LINGER_MS);
    destroyIn(FLUSH_MS);
    secure.once("finish", () => destroyIn(LINGER_MS));
  };

  secure.pipe(plain);
  plain.pipe(secure);
  plain.once("end", () => {
    check = setInterval(lookForNobody, HALF_OPEN_CHECK_MS);
    lookForNobody();
  });
  for (const side of [secure, plain]) {
    side.on("error", destroy);
    side.once("close", () => {
      // The other may still have something to pass on, but nobody to get more from.
      if (side === secure) plain.end();
      else secure.end();
      open--;
      if (open > 0) return;
      clearInterval(check);
      clearTimeout(last);
      onDown();
    });
  }
}
