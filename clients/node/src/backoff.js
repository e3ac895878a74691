/**
 * When to try again, and when to stop trying: arithmetic without a clock, so that a test can hold both.
 */

/** A daemon that asks for more patience than this is not believed: a garbled answer must not stop a sender. */
const HINT_MS_MAX = 3_600_000;

/**
 * Delays that double from `firstMs` up to `maxMs`, each shortened by up to half at random. The jitter keeps many
 * senders that lost the same daemon from returning at the same moment.
 */
export class Backoff {
  #failures = 0;

  /** @param {{firstMs?: number, maxMs?: number, random?: () => number}} [options] */
  constructor({ firstMs = 100, maxMs = 5_000, random = Math.random } = {}) {
    this.firstMs = firstMs;
    this.maxMs = maxMs;
    this.random = random;
  }

  /**
   * Milliseconds to wait after one more failure; never less than the daemon asked for, up to an hour.
   * @param {number | null} [retryAfterMs]
   */
  nextDelayMs(retryAfterMs = null) {
    const full = Math.min(this.maxMs, this.firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    return Math.max(full * (0.5 + this.random() / 2), Math.min(retryAfterMs ?? 0, HINT_MS_MAX));
  }

  /** Something succeeded: the next delay is the first one again. */
  reset() {
    this.#failures = 0;
  }
}

/** Notices that nothing has moved for `limitMs` while something was waited for. */
export class Patience {
  /** @type {number | null} */
  #sinceMs = null;

  /** @param {number} limitMs */
  constructor(limitMs) {
    this.limitMs = limitMs;
  }

  /**
   * Says whether something is waited for now. The time begins to run when that becomes true.
   * @param {number} nowMs
   * @param {boolean} waiting
   */
  watch(nowMs, waiting) {
    if (!waiting) this.#sinceMs = null;
    else this.#sinceMs ??= nowMs;
  }

  /**
   * Something moved: the time starts anew.
   * @param {number} nowMs
   */
  progress(nowMs) {
    if (this.#sinceMs !== null) this.#sinceMs = nowMs;
  }

  /**
   * Milliseconds until patience ends, at most 0 when it has; Infinity while nothing is waited for.
   * @param {number} nowMs
   */
  leftMs(nowMs) {
    return this.#sinceMs === null ? Infinity : this.#sinceMs + this.limitMs - nowMs;
  }
}
