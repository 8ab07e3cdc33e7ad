/**
 * Faults that are planted into the code under test while it is loaded: each must make its scenario fail, or the scenario
 * proves nothing. A fault is a list of edits of modules of the dist (a regular expression, and what it becomes), the
 * words that the failure must contain, and how many seeds it may take.
 *
 * @typedef {{ name: string, scenario: string, edits: [string, string, string][], expect: RegExp, seeds?: number }} Fault
 */
const engine = (/** @type {string} */ name) => `/packages/engine/dist/${name}.js`;
const region = "/packages/bitmap/dist/region.js";
const journal = (/** @type {string} */ name) => `/packages/journal/dist/${name}.js`;

/** @type {Fault[]} */
export const faults = [
  {
    name: "enter looks at closed before it stores its slot",
    scenario: "gate",
    edits: [
      [
        engine("gate"),
        "Atomics\\.store\\(this\\.words, this\\.#slot, operation\\);\\s*if \\(Atomics\\.load\\(this\\.words, closedWord\\) === 0\\)\\s*return;",
        "const closed = Atomics.load(this.words, closedWord); Atomics.store(this.words, this.#slot, operation); if (closed === 0) return;",
      ],
    ],
    expect: /between the commit/,
  },
  {
    name: "a gate opens without waking who waits",
    scenario: "gate",
    edits: [[engine("gatekeeper"), "Atomics\\.notify\\(words, closedWord\\);", ";"]],
    expect: /deadlock/,
  },
  {
    name: "leave does not wake the gatekeeper",
    scenario: "gate",
    edits: [
      [
        engine("gate"),
        "if \\(Atomics\\.load\\(this\\.words, closedWord\\) !== 0\\)\\s*Atomics\\.notify\\(this\\.words, this\\.#slot\\);",
        "",
      ],
    ],
    expect: /gatekeeper sleeps/,
  },
  {
    name: "a commit does not wait for the slots",
    scenario: "gate",
    edits: [
      [engine("gatekeeper"), "const slot = slotWord\\(participant, operationField\\);", "return 0; const slot = 0;"],
    ],
    expect: /between the commit/,
  },
  {
    name: "a dead thread's slot is not vacated",
    scenario: "gate-death",
    edits: [[engine("gatekeeper"), "Atomics\\.store\\(words, slot, 0\\);", ""]],
    expect: /does not come to an end/,
  },
  {
    name: "a guest goes on with the table that it has",
    scenario: "table",
    edits: [[engine("disk-io"), "if \\(generation === this\\.#generation\\)", "if (this.#generation !== 0)"]],
    expect: /I1/,
  },
  {
    name: "the generation is looked at before the gate is entered",
    scenario: "table",
    edits: [
      [
        engine("disk-io"),
        "this\\.#gate\\.enter\\(operation\\);",
        "this.early = this.#gate.generation(); this.#gate.enter(operation);",
      ],
      [engine("disk-io"), "const generation = this\\.#gate\\.generation\\(\\);", "const generation = this.early;"],
    ],
    expect: /I1/,
  },
  {
    name: "gates of a group are closed and committed one by one",
    scenario: "group",
    edits: [
      [
        engine("gatekeeper"),
        "if \\(holder === undefined\\) \\{\\s*commit\\(\\);",
        "if (holder === undefined) { if (gates.length > 1) { Atomics.store(gates[1], closedWord, 0); Atomics.notify(gates[1], closedWord); } commit();",
      ],
    ],
    expect: /I6|I1|I2|between the commit|descriptor/,
  },
  {
    name: "a bitmap is marked after the write",
    scenario: "freeze",
    edits: [
      [engine("disk-io"), "markRecorders\\(this\\.#layers, this\\.#base \\+ offset, length\\);", ""],
      [
        engine("disk-io"),
        "this\\.#node\\.write\\(buffer, offset\\)",
        "((errno) => { markRecorders(this.#layers, this.#base + offset, buffer.length); return errno; })(this.#node.write(buffer, offset))",
      ],
    ],
    expect: /I1/,
  },
  {
    name: "a guest does not look again after its claim",
    scenario: "same-cluster",
    edits: [
      [
        engine("preserve"),
        "const still = view\\.over\\(\\) \\? 0 : view\\.neededOf\\(word, claimed\\);",
        "const still = claimed;",
      ],
    ],
    expect: /I2/,
  },
  {
    name: "two threads may hold a claim",
    scenario: "same-cluster",
    edits: [
      [
        engine("view"),
        "return mask & ~Atomics\\.or\\(this\\.busy, word, mask\\);",
        "Atomics.or(this.busy, word, mask); return mask;",
      ],
    ],
    expect: /I2/,
  },
  {
    name: "a claim is released without waking who waits for it",
    scenario: "same-cluster",
    edits: [[engine("view"), "Atomics\\.notify\\(this\\.busy, word\\);", "0;"]],
    expect: /sleeps for a claim/,
  },
  {
    name: "a guest sets preserved before it has read",
    scenario: "same-cluster",
    edits: [
      [
        engine("preserve"),
        "const errno = node\\.read\\(data, base \\+ cluster \\* view\\.clusterSize\\);",
        "view.setPreserved(cluster >>> 5, 1 << (cluster & 31)); const errno = node.read(data, base + cluster * view.clusterSize);",
      ],
    ],
    expect: /I2/,
  },
  {
    name: "a copier sets preserved before it has read",
    scenario: "copier-small",
    edits: [[engine("copier"), "let got = 0;", "let got = 0; if (left !== 0) view.setPreserved(word, left);"]],
    expect: /I2/,
  },
  {
    name: "a copier does not look again after its claim",
    scenario: "copier-small",
    edits: [
      [
        engine("copier"),
        "let left = view\\.over\\(\\) \\? 0 : view\\.neededOf\\(word, claimed\\);",
        "let left = claimed;",
      ],
    ],
    expect: /I2/,
  },
  {
    name: "nobody looks whether the view broke after a copier's read",
    scenario: "spill-break",
    edits: [
      [engine("copier"), "if \\(view\\.over\\(\\)\\)\\s*got = 0;", ""],
      [engine("mover"), "if \\(job\\.view\\.over\\(\\)\\)\\s*return 0;", ""],
    ],
    expect: /I2/,
    seeds: 10_000,
  },
  {
    name: "a copier does not take copying",
    scenario: "two-kernel-copiers",
    edits: [[engine("view"), "return mask & ~Atomics\\.or\\(this\\.copying, word, mask\\);", "return mask;"]],
    expect: /I2/,
  },
  {
    name: "a kernel's copy is not looked at again",
    scenario: "kernel-small",
    edits: [
      [
        engine("copy-then-claim"),
        "const still = view\\.over\\(\\) \\? 0 : view\\.neededOf\\(word, got\\);",
        "const still = got;",
      ],
    ],
    expect: /I2/,
  },
  {
    name: "a drainer does not look at copying",
    scenario: "two-kernel-copiers",
    edits: [[engine("drainer"), "\\|\\| view\\.isCopying\\(cluster\\)", ""]],
    expect: /I2/,
  },
  {
    name: "a drainer counts a cluster before it has carried it",
    scenario: "death-of-a-copier",
    edits: [
      [
        engine("drainer"),
        "const errno = carry\\(",
        "view.setCopied(cluster >>> 5, 1 << (cluster & 31)); const errno = carry(",
      ],
    ],
    expect: /I2/,
    seeds: 6000,
  },
  {
    name: "a slot is free before it was carried",
    scenario: "spill",
    edits: [
      [engine("drainer"), "const errno = carry\\(", "spill.giveBack(slot); const errno = carry("],
      [engine("drainer"), "spill\\.freeDrained\\(slot, isOver\\);", ""],
    ],
    expect: /I2|slot/,
  },
  {
    name: "a view breaks after the guest has written",
    scenario: "spill-break",
    edits: [
      [
        engine("disk-io"),
        "held\\.break\\(brokenSpillFull\\);",
        "{ markRecorders(this.#layers, this.#base + offset, length); this.late = held; return 0; }",
      ],
      [
        engine("disk-io"),
        "this\\.#node\\.write\\(buffer, offset\\)",
        "((errno) => { this.late?.break(brokenSpillFull); this.late = undefined; return errno; })(this.#node.write(buffer, offset))",
      ],
    ],
    expect: /I2/,
  },
  {
    name: "room in the spill is made without a word",
    scenario: "spill-drained",
    edits: [
      [
        engine("drainer"),
        "spill\\.freeDrained\\(slot, isOver\\);\\s*view\\.madeProgress\\(\\);\\s*result",
        "spill.freeDrained(slot, isOver); result",
      ],
    ],
    expect: /sleeps for room/,
  },
  {
    name: "a reader does not look again after its read",
    scenario: "reader",
    edits: [
      [
        engine("reader"),
        "if \\(view\\.isPreserved\\(cluster\\) \\|\\| view\\.isRetired\\(cluster\\)\\)\\s*return again;",
        "",
      ],
    ],
    expect: /I2/,
  },
  {
    name: "a reader does not pin its slot",
    scenario: "reader-of-a-file",
    edits: [
      [
        engine("spill"),
        "Atomics\\.add\\(this\\.words, slotsStart \\+ slot \\* slotFields \\+ layout\\.readersField, 1\\);",
        "",
      ],
      [engine("spill"), "Atomics\\.sub\\(this\\.words, readers, 1\\) === 1", "false"],
    ],
    expect: /I2/,
    seeds: 20_000,
  },
  {
    name: "a guest does not wait for the target",
    scenario: "waits-for-target",
    edits: [[engine("disk-io"), "return held === 0 && this\\.#synchronous", "return false"]],
    expect: /the target does not have it/,
  },
  {
    name: "a summary is set after its leaf",
    scenario: "bitmap",
    edits: [
      [
        region,
        "this\\.#announce\\(word\\);\\s*Atomics\\.or\\(words, word, mask\\);",
        "{ Atomics.or(words, word, mask); this.#announce(word); } else Atomics.or(words, word, mask);",
      ],
    ],
    expect: /misses|hides/,
  },
  {
    name: "a summary is set after its leaf, and the thread dies in between",
    scenario: "bitmap-death",
    edits: [
      [
        region,
        "this\\.#announce\\(word\\);\\s*Atomics\\.or\\(words, word, mask\\);",
        "{ Atomics.or(words, word, mask); this.#announce(word); } else Atomics.or(words, word, mask);",
      ],
    ],
    expect: /misses|hides|lost/,
  },
  {
    name: "a mark is a load and a store",
    scenario: "bitmap",
    edits: [
      [
        region,
        "\\n(\\s*)Atomics\\.or\\(words, word, mask\\);\\n(\\s*)\\}\\n",
        "\n$1Atomics.store(words, word, Atomics.load(words, word) | mask);\n$2}\n",
      ],
    ],
    expect: /lost/,
  },
  {
    name: "a scan retires what a guest has preserved",
    scenario: "scan",
    edits: [[engine("scanner"), "!view\\.isPreserved\\(cluster\\)", "true"]],
    expect: /is retired, but/,
  },
  {
    name: "a scan retires without a claim",
    scenario: "scan",
    edits: [[engine("scanner"), "view\\.claim\\(word, bit\\) === 0", "false"]],
    expect: /I2/,
  },
  {
    name: "a transition that is given up leaves its gate closed",
    scenario: "refused",
    edits: [
      [
        engine("gatekeeper"),
        "Atomics\\.store\\(words, closedWord, 0\\);",
        "if (holder === undefined) Atomics.store(words, closedWord, 0);",
      ],
    ],
    expect: /leaves a gate closed/,
  },
  {
    name: "a granule counts as journaled before its block is written",
    scenario: "journal",
    edits: [
      [
        journal("block-bits"),
        "const errno = this\\.#write\\(block, bits\\);",
        "for (let word = 0; word < blockWords; word++) if (bits[word] !== 0) Atomics.or(this.#words, base + word, bits[word]); const errno = this.#write(block, bits);",
      ],
    ],
    expect: /a kill here would lose/,
  },
  {
    name: "a block is written from a snapshot taken outside its lock",
    scenario: "journal",
    edits: [
      [
        journal("block-bits"),
        "if \\(!this\\.#take\\(block, patient\\)\\)",
        "bits = bits.map((one, word) => one | Atomics.load(this.#words, base + word)); this.snapshot = bits; if (!this.#take(block, patient))",
      ],
      [journal("block-bits"), "Atomics\\.load\\(this\\.#words, base \\+ word\\) \\| added\\[word\\]", "added[word]"],
    ],
    expect: /a kill here would lose|is not in the file/,
  },
  {
    name: "a fold has its bits in memory before they are in the journal",
    scenario: "journal-fold",
    edits: [
      [
        journal("block-bits"),
        "const errno = this\\.#write\\(block, bits\\);",
        "for (let word = 0; word < blockWords; word++) if (bits[word] !== 0) Atomics.or(this.#words, base + word, bits[word]); const errno = this.#write(block, bits);",
      ],
    ],
    expect: /a kill here would lose/,
  },
  {
    name: "a region is marked in memory before its record is synced",
    scenario: "journal",
    edits: [
      [
        journal("region-marks"),
        "const errno = this\\.#write\\(\\[\\.\\.\\.kept",
        "for (const region of fresh) this.#admit(region); const errno = this.#write([...kept",
      ],
    ],
    expect: /a power loss here would lose/,
  },
  {
    name: "settling does not wait for the writers inside",
    scenario: "journal-settlers",
    edits: [[journal("region-marks"), "if \\(!this\\.#access\\.waitOutside\\(\\)\\)\\s*return EAGAIN;", ""]],
    expect: /a power loss here would lose/,
    seeds: 30_000,
  },
  {
    name: "settling clears a mark that was taken again",
    scenario: "journal-settlers",
    edits: [
      [
        journal("region-marks"),
        "quiet\\.filter\\(\\(region\\) => !this\\.#has\\(this\\.#layout\\.markedWord, region\\)\\)",
        "quiet",
      ],
    ],
    expect: /a power loss here would lose/,
  },
];
