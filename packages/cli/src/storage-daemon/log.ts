/** Lines on standard error: for people, or as JSON. */

export interface Log {
  readonly info: (message: string) => void;
  readonly error: (message: string) => void;
}

export async function openLog(format: "text" | "json", program: string): Promise<Log> {
  // Who daemonized us may have gone, and nobody reads: that must not end us.
  process.stderr.on("error", () => {});
  if (format === "json") {
    const { pino, destination } = await import("pino");
    const logger = pino({ name: program }, destination({ dest: 2, sync: true }));
    return { info: (message) => logger.info(message), error: (message) => logger.error(message) };
  }
  const write = (message: string): void => void process.stderr.write(`${program}: ${message}\n`);
  return { info: write, error: write };
}
