/**
 * What was handed over and is not answered yet: pure state that plans what to send, without network, clock or timers.
 *
 * A batch is first waiting, then in flight, then answered and gone. A stream that breaks puts everything in flight back
 * to what waits, in order; nothing is ever forgotten but by an answer.
 */
import { cut } from "./framing.js";

/** @typedef {import("./framing.js").Batch} Batch */

/** The daemon answered something that was not asked. */
export class ProtocolViolation extends Error {}

/**
 * @typedef {object} Limits How much one stream takes at once, as the handshake told it.
 * @property {number} batchEvents
 * @property {number} batchBytes
 * @property {number} inFlightBatches
 * @property {number} inFlightBytes
 */

/**
 * What a daemon leaves open (0) is taken as no limit; one batch is always possible.
 * @param {any} told IngestLimits of the wire
 * @returns {Limits}
 */
export function limitsTold(told) {
  return {
    batchEvents: Number(told.maxBatchEvents) || Infinity,
    batchBytes: Number(told.maxBatchBytes) || Infinity,
    inFlightBatches: Number(told.maxInFlightBatches) || Infinity,
    inFlightBytes: Number(told.maxInFlightBytes) || Infinity,
  };
}

/** Unanswered batches, at most `batchesMax` and `bytesMax` of them (a single batch may always enter). */
export class Window {
  /** @type {Batch[]} */
  #waiting = [];
  /** @type {Batch[]} */
  #inFlight = [];
  #waitingBytes = 0;
  #inFlightBytes = 0;
  #lastId = 0;
  /** @type {Limits | null} What the open stream takes; null while there is none. */
  limits = null;

  /**
   * @param {number} batchesMax
   * @param {number} bytesMax
   */
  constructor(batchesMax, bytesMax) {
    this.batchesMax = batchesMax;
    this.bytesMax = bytesMax;
  }

  /** Whether everything was answered. */
  get empty() {
    return !this.#waiting.length && !this.#inFlight.length;
  }

  /** Whether something was sent and not answered. */
  get awaitingAnswer() {
    return this.#inFlight.length > 0;
  }

  /** Whether one more batch may be added now. */
  get hasRoom() {
    return (
      this.empty ||
      (this.#waiting.length + this.#inFlight.length < this.batchesMax &&
        this.#waitingBytes + this.#inFlightBytes < this.bytesMax)
    );
  }

  /**
   * Takes over a batch; it is the last to be sent. One that the open stream would refuse for its size is cut.
   * @param {Batch} batch
   */
  add(batch) {
    for (const part of this.#fitting(batch)) {
      this.#waiting.push(part);
      this.#waitingBytes += part.size;
    }
  }

  /**
   * A new stream takes batches within these limits: larger ones, made for another daemon, are cut up.
   * @param {Limits} limits
   */
  opened(limits) {
    this.lost();
    this.limits = limits;
    this.#waiting = this.#waiting.flatMap((batch) => this.#fitting(batch));
    this.#waitingBytes = this.#waiting.reduce((sum, batch) => sum + batch.size, 0);
  }

  /** The stream is gone: everything in flight is to be sent again, in its old order. */
  lost() {
    this.limits = null;
    // Sorted and not only put in front: a batch refused for now may wait while younger ones are in flight.
    this.#waiting = [...this.#inFlight, ...this.#waiting].sort((one, other) => one.first - other.first);
    this.#waitingBytes += this.#inFlightBytes;
    this.#inFlight = [];
    this.#inFlightBytes = 0;
  }

  /** The next batch to send, now in flight; null while nothing waits or the stream takes no more. */
  take() {
    const [batch] = this.#waiting;
    if (this.limits === null || batch === undefined) return null;
    const full =
      this.#inFlight.length >= this.limits.inFlightBatches ||
      this.#inFlightBytes + batch.size > this.limits.inFlightBytes;
    if (this.#inFlight.length && full) return null;
    this.#waiting.shift();
    this.#waitingBytes -= batch.size;
    this.#inFlight.push(batch);
    this.#inFlightBytes += batch.size;
    batch.id = this.#lastId += 1;
    return batch;
  }

  /**
   * The batch that an answer is for: always the oldest in flight. Throws ProtocolViolation for any other. 0 is what the
   * daemon answers to a batch whose id it could not read.
   * @param {number} id
   * @returns {Batch}
   */
  expect(id) {
    const [batch] = this.#inFlight;
    if (batch === undefined) throw new ProtocolViolation(`an answer for batch ${id}, and none is in flight`);
    if (id !== 0 && id !== batch.id) {
      throw new ProtocolViolation(`an answer for batch ${id}, and the next must be for ${batch.id}`);
    }
    return batch;
  }

  /** The oldest batch in flight has its final answer: it is gone. */
  settle() {
    const batch = /** @type {Batch} */ (this.#inFlight.shift());
    this.#inFlightBytes -= batch.size;
  }

  /**
   * The oldest batch in flight was refused for now, all of it or some entries: they wait again, in their old place.
   * @param {Batch} again
   */
  putBack(again) {
    this.settle();
    const place = this.#waiting.findIndex((other) => other.first > again.first);
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, again);
    this.#waitingBytes += again.size;
  }

  /** @param {Batch} batch */
  #fitting(batch) {
    if (this.limits === null || batch.entries.length === 1) return [batch];
    const { batchEvents, batchBytes } = this.limits;
    if (batch.entries.length <= batchEvents && batch.size <= batchBytes) return [batch];
    return cut(batch.entries, batchEvents, batchBytes);
  }
}
