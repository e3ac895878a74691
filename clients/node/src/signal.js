/** Node.js lets timers of a longer time go off at once. Who waits looks again in any case. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Something has changed: whoever waits looks again. */
export class Signal {
  /** @type {Set<() => void>} */
  #waiting = new Set();

  /** Wakes all who wait. */
  notify() {
    const woken = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of woken) wake();
  }

  /**
   * Resolves with the next notify, or after so many milliseconds.
   * @param {number} [limitMs]
   * @returns {Promise<void>}
   */
  wait(limitMs = Infinity) {
    return new Promise((resolve) => {
      /** @type {NodeJS.Timeout | undefined} */
      let timer;
      const wake = () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      this.#waiting.add(wake);
      if (limitMs < Infinity) timer = setTimeout(wake, Math.min(Math.max(0, Math.ceil(limitMs)), TIMER_MS_MAX));
    });
  }
}
