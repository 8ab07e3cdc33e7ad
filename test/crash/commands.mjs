/**
 * The commands of a control plane, in the order in which the runtime carries them out: what is durable before a transition, the
 * transition, what follows. The comments say what a crash at the place may find.
 */

/** @typedef {import("./world.mjs").World} World */

/** @param {World} world @param {string} name */
export async function add(world, name) {
  const bits = await world.layer();
  world.transition(() => {
    world.bitmaps.set(name, { bits, successor: undefined, records: true });
    world.model.bitmaps.set(name, { recording: true, absent: true, lives: [] });
    world.life(name, world.content);
  });
  world.syncImage(); // what was written before the instant, and is clean, must not fall back
  await world.journal.update(() => {
    world.journal.bitmaps.set(name, kept(name, [bits.kept]));
  });
  modelOf(world, name).absent = false;
  world.tell();
}

/** A backup: freezes, and ends well or not. @param {World} world @param {string} name @param {boolean} success */
export async function backup(world, name, success) {
  const bitmap = bitmapOf(world, name);
  const entry = entryOf(world, name);
  const successor = await world.layer("successor");
  await world.journal.update(() => {
    entry.layers = [...entry.layers, successor.kept];
  });
  /** @type {import("./model.mjs").Life | undefined} */
  let next;
  world.transition(() => {
    bitmap.successor = successor;
    // What was written from here on belongs to the next life, if it comes; it is not among those that a crash may find.
    next = world.life(name, world.content);
    modelOf(world, name).lives.pop();
  });
  const since = /** @type {import("./model.mjs").Life} */ (next);
  world.following(since, name);
  world.mingle();
  world.mingle();
  if (success) {
    modelOf(world, name).lives.push(since); // from here on it may have happened
    world.tell();
    await world.journal.update(() => {
      entry.layers = [Object.assign(successor.kept, { role: "bits" })];
    });
    modelOf(world, name).lives.shift();
    world.tell();
    const old = bitmap.bits;
    world.transition(() => {
      bitmap.bits = successor;
      bitmap.successor = undefined;
    });
    world.unfollow(since);
    world.quiesce();
    world.journal.freeLayer(old.kept);
    return;
  }
  world.unfollow(since);
  world.transition(() => {
    bitmap.successor = undefined;
  });
  world.fold(bitmap.bits, successor.marks);
  await world.journal.update(() => {
    entry.layers = [bitmap.bits.kept];
  });
  world.quiesce();
  world.journal.freeLayer(successor.kept);
}

/** @param {World} world @param {string} name */
export async function clear(world, name) {
  const bitmap = bitmapOf(world, name);
  const entry = entryOf(world, name);
  const fresh = await world.layer();
  const old = bitmap.bits;
  await world.journal.update(() => {
    entry.layers = [old.kept, fresh.kept];
  });
  /** @type {import("./model.mjs").Life | undefined} */
  let next;
  world.transition(() => {
    bitmap.bits = fresh;
    next = world.life(name, world.content);
  });
  world.syncImage();
  await world.journal.update(() => {
    entry.layers = [fresh.kept];
  });
  modelOf(world, name).lives = [/** @type {import("./model.mjs").Life} */ (next)];
  world.tell();
  world.quiesce();
  world.journal.freeLayer(old.kept);
}

/** @param {World} world @param {string} target @param {string} source */
export async function merge(world, target, source) {
  const [into, from] = [bitmapOf(world, target), bitmapOf(world, source)];
  const entry = entryOf(world, source);
  const fresh = await world.layer();
  const old = from.bits;
  await world.journal.update(() => {
    entry.layers = [old.kept, fresh.kept];
  });
  /** @type {number[]} */
  let joined = [];
  world.transition(() => {
    from.bits = fresh;
    joined = [...old.marks.extents()].flatMap(({ offset, length }) =>
      Array.from({ length: length / old.marks.granularity }, (_, index) => offset / old.marks.granularity + index),
    );
    for (const life of modelOf(world, target).lives) for (const granule of joined) life.optional.add(granule);
  });
  world.fold(fresh, old.marks);
  world.fold(into.bits, old.marks);
  await world.journal.update(() => {
    entry.layers = [fresh.kept];
  });
  for (const life of modelOf(world, target).lives) {
    for (const granule of joined) {
      life.dirty.add(granule);
      life.must.add(granule);
    }
  }
  world.tell();
  world.quiesce();
  world.journal.freeLayer(old.kept);
}

/** Off and on again. @param {World} world @param {string} name */
export async function pause(world, name) {
  const bitmap = bitmapOf(world, name);
  const entry = entryOf(world, name);
  const model = modelOf(world, name);
  model.recording = undefined; // either
  world.tell();
  await world.journal.update(() => {
    entry.recording = false;
  });
  world.transition(() => {
    bitmap.records = false;
    model.recording = false;
  });
  world.syncImage();
  await world.journal.update(() => {
    entry.unsettled = false;
  });
  world.mingle();
  world.transition(() => {
    bitmap.records = true;
    model.recording = undefined;
    // It says from now on what is written from now on; what it had stays dirty.
    for (const life of model.lives) {
      life.checkpoint = world.content.slice();
      for (const granule of life.dirty) life.must.add(granule);
    }
  });
  world.syncImage();
  await world.journal.update(() => {
    entry.recording = true;
    entry.unsettled = true;
  });
  model.recording = true;
  world.tell();
}

/** @param {World} world @param {string} name */
export async function remove(world, name) {
  const bitmap = bitmapOf(world, name);
  modelOf(world, name).absent = true;
  world.tell();
  await world.journal.update(() => {
    world.journal.bitmaps.delete(name);
  });
  world.transition(() => {
    world.bitmaps.delete(name);
    world.model.bitmaps.delete(name);
  });
  world.quiesce();
  world.journal.freeLayer(bitmap.bits.kept);
}

/** @param {string} name @param {any[]} layers */
function kept(name, layers) {
  return {
    name,
    granularity: layers[0].granularity,
    recording: true,
    unsettled: true,
    inconsistent: null,
    layers,
    pending: null,
    job: null,
  };
}

/** @param {World} world @param {string} name */
function bitmapOf(world, name) {
  const bitmap = world.bitmaps.get(name);
  if (bitmap === undefined) throw new Error(`no bitmap ${name}`);
  return bitmap;
}
/** @param {World} world @param {string} name @returns {any} */
function entryOf(world, name) {
  return world.journal.bitmaps.get(name);
}
/** @param {World} world @param {string} name */
function modelOf(world, name) {
  const model = world.model.bitmaps.get(name);
  if (model === undefined) throw new Error(`no bitmap ${name}`);
  return model;
}
