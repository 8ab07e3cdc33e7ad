/** The entry of the thread that carries TLS. */
import { parentPort } from "node:worker_threads";
import { carryTunnels } from "./tunnel-carrier.ts";

if (parentPort !== null) carryTunnels(parentPort);
