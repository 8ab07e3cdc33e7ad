/**
 * What must hold after a crash, kept beside the run by counting what guests and commands did, and not by asking the code under
 * test.
 *
 * A bitmap may recover as one of `lives`: one, or two while a command is under way that ends the one and begins the other. A
 * life has the content of the disk at its checkpoint, what was written since, what a command that is under way may have joined
 * already, and what it must have whatever the disk says.
 *
 * @typedef {{ checkpoint: Int32Array, dirty: Set<number>, optional: Set<number>, must: Set<number> }} Life
 * @typedef {{ recording: boolean | undefined, absent: boolean, lives: Life[] }} BitmapModel
 * A resumable job has the content at its freeze, what it is to copy, and the life that begins with it; `must`: killed now, it has to
 * go on, and after a power loss too where its spill is `synced`.
 *
 * @typedef {{ name: string, pit: Int32Array, set: Set<number>, since: Life, must: boolean,
 *   synced: boolean }} JobModel
 * @typedef {{ bitmaps: Map<string, BitmapModel>, inFlight: Set<number>, job: JobModel | undefined }} Model
 */

/** @param {Int32Array} content @returns {Life} */
export function newLife(content) {
  return { checkpoint: content.slice(), dirty: new Set(), optional: new Set(), must: new Set() };
}

/** @param {Life} life @returns {Life} */
export function copyLife(life) {
  return {
    checkpoint: life.checkpoint,
    dirty: new Set(life.dirty),
    optional: new Set(life.optional),
    must: new Set(life.must),
  };
}

/** @param {Model} model @returns {Model} */
export function copyModel(model) {
  return {
    bitmaps: new Map(
      [...model.bitmaps].map(([name, bitmap]) => [name, { ...bitmap, lives: bitmap.lives.map(copyLife) }]),
    ),
    inFlight: new Set(model.inFlight),
    job: model.job === undefined ? undefined : { ...model.job, since: copyLife(model.job.since) },
  };
}
