/**
 * Rules left out of the code under test, or of the order of the commands: each must be seen, or the enumeration proves nothing.
 * An edit is a regular expression on a module while it is loaded, and what it becomes.
 *
 * @typedef {object} Fault
 * @property {string} name
 * @property {[string, string, string][]} edits
 * @property {RegExp} expect
 * @property {number} [from] the first seed that is tried: where few runs show it, one that does
 * @property {number} [seeds] how many are tried
 * @property {"kills" | "losses"} [jobs]
 * @property {boolean} [synced] of jobs whose spill is synced
 */
const journal = (/** @type {string} */ name) => `/packages/journal/dist/${name}.js`;
const commands = "/test/crash/commands.mjs";
const recovery = "/test/crash/recovery.mjs";
const world = "/test/crash/world.mjs";
const jobCommands = "/test/crash/job-commands.mjs";
const jobView = "/test/crash/job-view.mjs";

/** @type {Fault[]} */
export const faults = [
  {
    name: "a region's mark is not synced",
    edits: [[journal("region-marks"), "marksSlotBytes\\) \\|\\| this\\.#sync\\(\\)", "marksSlotBytes)"]],
    expect: /I1/,
  },
  {
    name: "a region's mark is not written",
    edits: [
      [
        journal("region-marks"),
        "const errno = this\\.#write\\(\\[\\.\\.\\.kept",
        "const errno = 0 && this.#write([...kept",
      ],
    ],
    expect: /I1/,
  },
  {
    name: "settling does not wait for the writers inside",
    edits: [[journal("region-marks"), "if \\(!this\\.#access\\.waitOutside\\(\\)\\)\\s*return EAGAIN;", ""]],
    expect: /I1/,
  },
  {
    name: "making room for a mark does not wait for the writers inside",
    edits: [[journal("region-marks"), "if \\(!this\\.#access\\.waitOutside\\(\\)\\)\\s*return 0;", ""]],
    expect: /I1/,
    from: 100,
    seeds: 400,
  },
  {
    name: "settling does not sync the exact bits",
    edits: [
      [
        journal("region-marks"),
        "this\\.#access\\.syncImage\\(\\) \\|\\| this\\.#sync\\(\\)",
        "this.#access.syncImage()",
      ],
    ],
    expect: /I1/,
  },
  {
    name: "settling does not sync the image",
    edits: [[journal("region-marks"), "this\\.#access\\.syncImage\\(\\) \\|\\| this\\.#sync\\(\\)", "this.#sync()"]],
    expect: /I1/,
  },
  {
    name: "a mark that was taken again leaves the file",
    edits: [
      [
        journal("region-marks"),
        "quiet\\.filter\\(\\(region\\) => !this\\.#has\\(this\\.#layout\\.markedWord, region\\)\\)",
        "quiet",
      ],
    ],
    expect: /I1/,
    from: 32,
  },
  {
    name: "the data is written before the granule is journaled",
    edits: [[world, "layers\\.every\\(\\(\\{ bits \\}\\) => bits\\.covers\\(offset, length\\)\\)", "true"]],
    expect: /I1/,
  },
  {
    name: "a block in the file does not get its new bits",
    edits: [[journal("block-bits"), "\\| added\\[word\\]", ""]],
    expect: /I1/,
  },
  {
    name: "the directory is written before the bits that it speaks of are synced",
    edits: [
      [
        journal("steps"),
        "storage\\.sync\\(\\) \\|\\|\\s*storage\\.write\\(usedPart\\(record\\)",
        "storage.write(usedPart(record)",
      ],
    ],
    expect: /I1|I5|damaged/,
  },
  {
    name: "the directory is acknowledged before it is synced",
    edits: [[journal("steps"), "directorySlotBytes\\) \\|\\|\\s*storage\\.sync\\(\\)\\);", "directorySlotBytes));"]],
    expect: /./,
  },
  {
    name: "both slots of the directory are one",
    edits: [[journal("steps"), "\\(sequence % 2\\) \\* directorySlotBytes", "0 * directorySlotBytes"]],
    expect: /neither of its two slots|lost/,
  },
  {
    name: "the successor is named after the freeze",
    edits: [[commands, "entry\\.layers = \\[\\.\\.\\.entry\\.layers, successor\\.kept\\];", ""]],
    expect: /I1/,
    from: 39,
  },
  {
    name: "the abdicate is recorded before the success is decided",
    edits: [
      [
        commands,
        "const old = bitmap\\.bits;\\s*world\\.transition",
        "entry.layers = [old0.kept]; const old = bitmap.bits; world.transition",
      ],
      [
        commands,
        "world\\.mingle\\(\\);\\s*world\\.mingle\\(\\);\\s*if \\(success\\) \\{",
        "const old0 = bitmap.bits; await world.journal.update(() => { entry.layers = [successor.kept]; }); world.mingle(); world.mingle(); if (success) {",
      ],
    ],
    expect: /I1/,
  },
  {
    name: "a reclaim is recorded before its fold",
    edits: [
      [
        commands,
        "world\\.fold\\(bitmap\\.bits, successor\\.marks\\);",
        "await world.journal.update(() => { entry.layers = [bitmap.bits.kept]; }); world.fold(bitmap.bits, successor.marks);",
      ],
    ],
    expect: /I1/,
    from: 46,
  },
  {
    name: "a fold sets its bits in memory alone",
    edits: [[journal("fold"), "const errno = bits\\.add\\(block, added, true\\);", "const errno = 0;"]],
    expect: /I1|I5/,
  },
  {
    name: "a clear names the empty layer alone, before its instant",
    edits: [[commands, "entry\\.layers = \\[old\\.kept, fresh\\.kept\\];", "entry.layers = [fresh.kept];"]],
    expect: /I1|I5/,
  },
  {
    name: "an add does not sync the image",
    edits: [[commands, "world\\.syncImage\\(\\); // what was written", "// what was written"]],
    expect: /I1/,
  },
  {
    name: "a bitmap is disabled on disk after it is in memory",
    edits: [
      [
        commands,
        "await world\\.journal\\.update\\(\\(\\) => \\{\\s*entry\\.recording = false;\\s*\\}\\);",
        "model.recording = true;",
      ],
    ],
    expect: /I1|recording/,
  },
  {
    name: "a copier's memory counts: a guest overwrites what is in its buffer",
    edits: [
      [
        jobCommands,
        "const version = world\\.content\\[granule\\];",
        "const version = world.content[granule]; view.copied.add(granule);",
      ],
      [jobCommands, "if \\(view\\.isNeeded\\(granule\\)\\)", "if (true)"],
    ],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "a copier does not look again whether its cluster was needed",
    edits: [[jobCommands, "if \\(view\\.isNeeded\\(granule\\)\\)", "if (true)"]],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "memory says copied before the record does",
    edits: [
      [
        jobCommands,
        "add\\(copied, \\[granule\\]\\);\\s*view\\.copied\\.add\\(granule\\);",
        "view.copied.add(granule); view.world.mingle(); add(copied, [granule]);",
      ],
    ],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "what is copied is recorded as flushed before the flush",
    edits: [
      [
        jobCommands,
        "const covered = \\[\\.\\.\\.view\\.copied\\];",
        "const covered = [...view.copied]; add(flushed, covered);",
      ],
    ],
    jobs: "losses",
    expect: /I2/,
  },
  {
    name: "what is copied during a flush counts as covered by it",
    edits: [
      [jobCommands, "add\\(flushed, covered\\);", "copyOne(world, view, copied0); add(flushed, view.copied);"],
      [jobCommands, "function flush\\(world, view, flushed\\) \\{", "function flush(world, view, flushed, copied0) {"],
      [jobCommands, "else flush\\(world, view, flushed\\);", "else flush(world, view, flushed, copied);"],
    ],
    jobs: "losses",
    expect: /I2/,
  },
  {
    name: "after a power loss what no flush covers counts",
    edits: [[journal("recover-job"), "words: copied \\} = lost", "words: copied } = false"]],
    jobs: "losses",
    expect: /I2/,
  },
  {
    name: "after a power loss nobody looks whether what was written since is stored",
    edits: [
      [journal("recover-job"), "const missing = firstUnsafe\\(job, set, successor, safe\\);", "const missing = -1;"],
    ],
    jobs: "losses",
    expect: /I2/,
  },
  {
    name: "an entry of the spill counts whatever its checksum says",
    edits: [
      [
        "/packages/engine/dist/spill-entry.js",
        "if \\(view\\.getUint32\\(checksumAt, true\\) !== crc32\\(record\\.subarray\\(tagAt\\)\\)\\)\\s*return -1;",
        "",
      ],
    ],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "a guest writes before the old data is stored",
    edits: [
      [
        world,
        "for \\(let granule = first; granule < first \\+ count; granule\\+\\+\\)\\s*this\\.view\\?\\.preserve\\(granule\\);",
        "",
      ],
      [
        world,
        'yield "inside";\\s*this\\.#fly\\(first, count, -1\\);',
        'for (let granule = first; granule < first + count; granule++) this.view?.preserve(granule); yield "inside"; this.#fly(first, count, -1);',
      ],
    ],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "a place in the spill is used again before its cluster is recorded as copied",
    edits: [
      [
        jobCommands,
        "sayCopied\\(view, granule, copied\\);\\s*view\\.free\\(granule, slot\\);",
        "view.slots[slot] = undefined; world.mingle(); sayCopied(view, granule, copied); view.stored.delete(granule);",
      ],
    ],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "a view that is given up does not say so in its spill",
    edits: [
      [
        jobView,
        'this\\.world\\.recorder\\.add\\(\\{ file: "spill", type: "write", offset: givenUpAt, bytes: encodeGivenUp\\(spillTag\\) \\}\\);',
        "",
      ],
    ],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "an entry of a synced spill is not synced before the guest writes",
    edits: [
      [
        jobView,
        '#store\\(granule\\);\\s*this\\.world\\.recorder\\.add\\(\\{ file: "spill", type: "sync" \\}\\);',
        "#store(granule);",
      ],
    ],
    jobs: "losses",
    synced: true,
    expect: /I2|cannot go on/,
  },
  {
    name: "a guest overwrites what is on the target without a flush",
    edits: [
      [jobView, "if \\(this\\.broken \\|\\| !this\\.set", "if (this.copied.has(granule) || this.broken || !this.set"],
    ],
    jobs: "losses",
    synced: true,
    expect: /I2/,
  },
  {
    name: "a drained entry's place is used again before a flush of the target",
    edits: [[jobView, "if \\(this\\.synced\\) \\{\\s*this\\.held\\.add", "if (false) { this.held.add"]],
    jobs: "losses",
    synced: true,
    expect: /I2/,
  },
  {
    name: "guests overwrite what a flush covers before that is durably recorded",
    edits: [[jobCommands, "world\\.storage\\.sync\\(\\);\\s*world\\.mingle\\(\\);", "world.mingle();"]],
    jobs: "losses",
    synced: true,
    expect: /I2/,
    from: 11,
  },
  {
    name: "the image is not synced after the freeze of a job whose spill is synced",
    edits: [[jobCommands, "if \\(synced\\) \\{\\s*world\\.syncImage\\(\\);", "if (synced) {"]],
    jobs: "losses",
    synced: true,
    expect: /I2/,
  },
  {
    name: "the view of a synced job that succeeds leaves before all is recorded as flushed",
    edits: [[jobCommands, "if \\(view\\.synced\\) \\{\\s*// Until", "if (false) { // Until"]],
    jobs: "losses",
    synced: true,
    expect: /I2/,
    from: 6,
  },
  {
    name: "that a synced job's view is given up is not synced",
    edits: [
      [
        jobView,
        'this\\.world\\.recorder\\.add\\(\\{ file: "spill", type: "sync" \\}\\);',
        'if (!this.broken) this.world.recorder.add({ file: "spill", type: "sync" });',
      ],
    ],
    jobs: "losses",
    synced: true,
    expect: /I2/,
    from: 22,
  },
  {
    name: "a cancelled job's view leaves before its record does",
    edits: [
      [
        jobCommands,
        "// Before guests may overwrite what is stored nowhere\\.",
        "world.transition(() => { world.view = undefined; }); world.mingle();",
      ],
    ],
    jobs: "kills",
    expect: /I2/,
  },
  {
    name: "the set is the frozen bitmap's layer, which may have grown",
    edits: [
      ["/test/crash/check-job.mjs", "entry\\.job\\.set, granularity", "entry.layers[0], granularity"],
      ["/test/crash/check-job.mjs", "join\\(set, entry\\.job\\.set", "join(set, entry.layers[0]"],
    ],
    jobs: "kills",
    expect: /was not in the set/,
  },
  {
    name: "a recovery does not write the bits that it joins",
    edits: [[journal("recover-bits"), "bits\\.loadFrom\\(storage\\) \\|\\| foldInto\\(bits, marks, joined\\)", "0"]],
    expect: /in its recovery (killed|lost the power)/,
  },
  {
    name: "a recovery names one layer before it has the bits of the others",
    edits: [
      [
        recovery,
        "const left = new Map\\(\\);",
        "const left = new Map(); await journal.update(() => { for (const bitmap of journal.bitmaps.values()) bitmap.layers = bitmap.layers.slice(0, 1); });",
      ],
    ],
    expect: /in its recovery (killed|lost the power)/,
    from: 46,
  },
  {
    name: "a layer's room is used again while a guest journals into it",
    edits: [[commands, "world\\.unfollow\\(since\\);\\s*world\\.quiesce\\(\\);", "world.unfollow(since);"]],
    expect: /damaged|dirty for no reason|I1/,
  },
];
