/** Prometheus' text format, version 0.0.4. */

export type MetricType = "counter" | "gauge" | "histogram";
export type Labels = Readonly<Record<string, string>>;

export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export class Exposition {
  readonly #lines: string[] = [];

  /** A metric with its samples; without any it is left out, so that nobody takes it for one that is always 0. */
  add(name: string, type: MetricType, help: string, samples: readonly (readonly [Labels, number])[]): void {
    if (samples.length === 0) return;
    this.#head(name, type, help);
    for (const [labels, value] of samples) this.#sample(name, labels, value);
  }

  /** @param ends of its buckets @param buckets how many fell into each, not into those below */
  histogram(
    name: string,
    help: string,
    ends: readonly number[],
    { buckets, count, sum }: { readonly buckets: readonly number[]; readonly count: number; readonly sum: number },
  ): void {
    this.#head(name, "histogram", help);
    let below = 0;
    ends.forEach((end, index) => {
      below += buckets[index];
      this.#sample(`${name}_bucket`, { le: String(end) }, below);
    });
    this.#sample(`${name}_bucket`, { le: "+Inf" }, count);
    this.#sample(`${name}_sum`, {}, sum);
    this.#sample(`${name}_count`, {}, count);
  }

  get text(): string {
    return this.#lines.map((line) => `${line}\n`).join("");
  }

  #head(name: string, type: MetricType, help: string): void {
    this.#lines.push(
      `# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`,
      `# TYPE ${name} ${type}`,
    );
  }

  #sample(name: string, labels: Labels, value: number): void {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
    this.#lines.push(`${name}${pairs.length === 0 ? "" : `{${pairs.join()}}`} ${value}`);
  }
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
