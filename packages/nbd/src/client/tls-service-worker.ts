/** The entry of the thread that puts TLS on connections of the driver's threads. */
import { serveTls } from "./tls-service.ts";

serveTls();
