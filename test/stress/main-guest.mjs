/** The guest on the main thread: the same requests by `disk.write` and the rest, which go to the pool. */

export class MainGuest {
  /** @param {import("./guest.mjs").Guest} guest @param {readonly import("./test-disk.mjs").TestDisk[]} disks that it writes */
  constructor(guest, disks) {
    this.guest = guest;
    this.disks = disks;
    /** @type {Promise<void> | undefined} */
    this.running = undefined;
    this.paused = true;
  }

  resume() {
    this.paused = false;
    this.running = this.#run();
  }

  /** Until its request has been answered. */
  async park() {
    this.paused = true;
    await this.running;
  }

  async #run() {
    while (!this.paused) {
      const open = this.disks.filter((disk) => disk.attached !== undefined).map((disk) => disk.index);
      const request = open.length === 0 ? undefined : this.guest.choose(open);
      if (request !== undefined) await this.#step(request);
      await new Promise((resolve) => setTimeout(resolve, this.guest.random.int(0, 4)));
    }
  }

  /** @param {import("./guest.mjs").Request} request */
  async #step(request) {
    const { kind, offset, length, unmap } = request;
    const { disk } = this.disks.find((one) => one.index === request.disk) ?? this.disks[0];
    const running = this.guest.begin(request);
    let errno = 0;
    try {
      if (kind === "write") await disk.write(running.data, offset);
      else if (kind === "read") await disk.read(running.data, offset);
      else if (kind === "zero") await disk.writeZeroes(offset, length, { unmap });
      else await disk.discard(offset, length);
    } catch (thrown) {
      const error = /** @type {Error & { cause?: { code?: string }, errno?: number }} */ (thrown);
      // Its server died: whether it was done nobody knows, so the log's entry stays open.
      if (error.cause?.code === "ERR_THREAD_DIED") return;
      if (error.errno === undefined) throw error;
      errno = error.errno;
    }
    this.guest.end(request, running, errno);
    if (kind === "read" && errno === 0) this.guest.judgeRead(request, running, undefined);
  }
}
