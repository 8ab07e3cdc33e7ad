/** A failure as text: what, how to replay it, and the steps that led there. @param {string} scenario @param {{ message: string, seed: number, path: string, trace: string[] }} failure @param {number} [lines] */
export function describeFailure(scenario, { message, seed, path, trace }, lines = 150) {
  const shown =
    trace.length <= lines
      ? trace
      : [
          ...trace.slice(0, lines / 3),
          `      ... ${trace.length - lines} steps ...`,
          ...trace.slice(-Math.floor((lines * 2) / 3)),
        ];
  const replay = path === "" || seed > 0 ? `--seed ${seed} --count 1` : `path ${path}`;
  return `${scenario}: ${message}\nreplay: node test/interleave/run.mjs --scenario ${scenario} ${replay}\n${shown.join("\n")}`;
}
