/** Asking for TLS on a thread without an event loop; see tls-service.ts. */
import { randomUUID } from "node:crypto";
import { constants } from "node:os";
import { BroadcastChannel, receiveMessageOnPort } from "node:worker_threads";
import { closeFile, type Errno } from "@heirloom/block";
import { NbdError } from "../protocol/nbd-error.ts";
import type { NbdUriTls } from "../protocol/uri.ts";
import { nowMs, type Patience } from "./patience.ts";
import {
  type FromTlsService,
  GIVEN_UP,
  OFFERED,
  TAKEN,
  TLS_CHANNEL,
  type ToTlsService,
  WITHDRAWN,
} from "./tls-service-messages.ts";

/** A channel wakes nobody who has no event loop: it is looked at. */
const LOOK_MS = 2;
/** A service that was just started takes some 50 ms to hear. */
const HELLO_MS = 20;
const SERVICE_MS_MAX = 5000;

const { ECANCELED, ETIMEDOUT } = constants.errno;

/**
 * @param fd is the service's from here on, also where this throws
 * @returns a descriptor on which the conversation goes on in the clear
 * @throws NbdError ERR_NBD_TLS, ERR_NBD_TIMEOUT
 */
export function secureDescriptor(
  fd: number,
  tls: NbdUriTls,
  serverName: string,
  patience: Patience,
  deadline: number,
): number {
  const channel = new BroadcastChannel(TLS_CHANNEL);
  const from = randomUUID();
  const claim = new Int32Array(new SharedArrayBuffer(4));
  const ask = (message: ToTlsService): void => channel.postMessage(message);
  try {
    find(channel, from, ask, patience, Math.min(deadline, nowMs() + SERVICE_MS_MAX));
    ask({ ask: "secure", from, fd, claim, tls, serverName, timeoutMs: Math.max(1, Math.ceil(deadline - nowMs())) });
    const answer = receive(channel, from, patience, deadline, (message) => message.is !== "here");
    if (typeof answer === "number") throw giveUp(answer);
    if (answer.is === "secured") return answer.fd;
    throw new NbdError("ERR_NBD_TLS", answer.is === "failed" ? answer.message : "start TLS: no answer");
  } catch (error) {
    letGo(fd, claim, channel, from);
    throw error;
  } finally {
    channel.close();
  }
}

function find(
  channel: BroadcastChannel,
  from: string,
  ask: (message: ToTlsService) => void,
  patience: Patience,
  deadline: number,
): void {
  for (;;) {
    ask({ ask: "hello", from });
    const answer = receive(channel, from, patience, Math.min(deadline, nowMs() + HELLO_MS), ({ is }) => is === "here");
    if (typeof answer !== "number") return;
    if (answer !== ETIMEDOUT) throw giveUp(answer);
    if (nowMs() < deadline) continue;
    throw new NbdError("ERR_NBD_TLS", "start TLS: there is no thread for it; expected a call of startNbdTls before");
  }
}

/** @returns the first message to us that fits, or an errno */
function receive(
  channel: BroadcastChannel,
  from: string,
  patience: Patience,
  deadline: number,
  fits: (message: FromTlsService) => boolean,
): FromTlsService | Errno {
  for (;;) {
    for (let next = receiveNext(channel); next !== undefined; next = receiveNext(channel)) {
      if ("to" in next && next.to === from && fits(next)) return next;
    }
    if (nowMs() >= deadline) return ETIMEDOUT;
    const errno = patience.sleep(LOOK_MS);
    if (errno !== 0) return errno;
  }
}

function receiveNext(channel: BroadcastChannel): FromTlsService | ToTlsService | undefined {
  // Node takes a channel here as well as a port; its types know only ports.
  return receiveMessageOnPort(channel as never)?.message as FromTlsService | ToTlsService | undefined;
}

/** Whoever has the connection closes it. */
function letGo(fd: number, claim: Int32Array, channel: BroadcastChannel, from: string): void {
  const was = Atomics.compareExchange(claim, 0, OFFERED, WITHDRAWN);
  if (was === OFFERED) closeFile(fd);
  // One that is already delivered is in the channel, or was never taken out of it.
  else if (was !== TAKEN || Atomics.compareExchange(claim, 0, TAKEN, GIVEN_UP) !== TAKEN) {
    for (let next = receiveNext(channel); next !== undefined; next = receiveNext(channel)) {
      if ("to" in next && next.to === from && next.is === "secured") closeFile(next.fd);
    }
  }
}

function giveUp(errno: Errno): NbdError {
  if (errno === ETIMEDOUT) return new NbdError("ERR_NBD_TIMEOUT", "start TLS: no end in time", { errno });
  return new NbdError("ERR_NBD_TLS", errno === ECANCELED ? "start TLS: interrupted" : "start TLS: given up", { errno });
}
