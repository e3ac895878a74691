/**
 * Following a daemon: events as they are stored, each once and in order, whatever happens to the connection.
 */
import { Backoff, Patience } from "./backoff.js";
import { subscribe } from "./contract.js";
import { InternalError, TrackdError, breaksForGood, fromServiceError } from "./errors.js";
import { fromWire, int64 } from "./events.js";
import { Signal } from "./signal.js";

/** @typedef {import("./events.js").Integer} Integer */
/** @typedef {import("./events.js").StoredEvent} StoredEvent */
/** @typedef {{month: string, reason: "damaged" | "dropped"}} Gap Events of this month may be missing. */

/**
 * @typedef {object} SubscriptionOptions
 * @property {Integer} [afterPosition] begin behind this position; 0: with the first event there is
 * @property {Integer} [receivedFromMs] begin with the first event received at or after this time
 * @property {(kind: "confirmed" | "gap" | "checkpoint" | "caughtUp" | "heartbeat") => void} [onFrame]
 *   hears of every frame but events
 * @property {(error: TrackdError) => void} [onInterruption] hears of each error that is waited out
 * @property {number} [giveUpAfterMs] so long nothing comes over a broken stream, then iterating throws
 * @property {Backoff} [backoff]
 */

/**
 * Matching events behind a position, for as long as somebody iterates; made by `Client.subscribe`.
 *
 * A stream that breaks, a daemon that restarts, a refusal "for now": all are waited out with backoff, and the next
 * stream goes on behind `position`, so that no event is left out and none comes twice. What is not asked for stays in
 * the daemon's storage. Leaving the loop closes it; so does `close`, also from elsewhere.
 *
 * @implements {AsyncIterable<StoredEvent>}
 */
export class Subscription {
  /** @type {bigint | null} Up to here everything was handed out: resume behind it. Null before the confirmation. */
  position = null;
  /** @type {bigint | null} The daemon's head, as far as it has told. */
  head = null;
  /** @type {Gap[]} */
  gaps = [];
  #channel;
  #filter;
  #options;
  #backoff;
  #patience;
  #closed = false;
  #closing = new Signal();
  /** @type {import("@grpc/grpc-js").ClientReadableStream<any> | null} */
  #call = null;

  /**
   * @param {import("@grpc/grpc-js").Client} channel
   * @param {object} filter EventFilter of the wire
   * @param {SubscriptionOptions} options
   */
  constructor(channel, filter, options) {
    const { afterPosition, receivedFromMs, giveUpAfterMs = 60_000 } = options;
    if (afterPosition !== undefined && receivedFromMs !== undefined) {
      throw new TypeError("afterPosition or receivedFromMs, not both");
    }
    if (afterPosition !== undefined) this.position = BigInt(int64(afterPosition, "afterPosition"));
    this.#channel = channel;
    this.#filter = filter;
    this.#options = options;
    this.#backoff = options.backoff ?? new Backoff();
    this.#patience = new Patience(giveUpAfterMs);
  }

  /** Ends it; who iterates comes to the end. Closing twice is fine. */
  close() {
    this.#closed = true;
    this.#call?.cancel();
    this.#closing.notify();
  }

  /** @returns {AsyncGenerator<StoredEvent, void>} */
  async *[Symbol.asyncIterator]() {
    try {
      while (!this.#closed) {
        try {
          for await (const frame of this.#open()) {
            for (const stored of this.#take(frame)) {
              if (this.#closed) return;
              this.#advance(stored);
              yield stored;
            }
          }
          return; // the filter's upToPosition is reached
        } catch (error) {
          if (!this.#closed) await this.#waitOut(error);
        }
      }
    } finally {
      this.close();
    }
  }

  #open() {
    const { path, requestSerialize, responseDeserialize } = subscribe;
    const { receivedFromMs } = this.#options;
    /** @type {Record<string, unknown>} */
    const request = { filter: this.#filter };
    if (this.position !== null) request.afterPosition = this.position.toString();
    else if (receivedFromMs !== undefined) request.receivedFromMs = int64(receivedFromMs, "receivedFromMs");
    this.#call = this.#channel.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    this.#call.on("error", () => {}); // told to who iterates; what comes after the loop was left concerns nobody
    return this.#call;
  }

  /** @param {StoredEvent} stored */
  #advance(stored) {
    if (this.position !== null && stored.position <= this.position) {
      const facts = { code: "DATA_LOSS", reason: "PROTOCOL_VIOLATION" };
      throw new InternalError(`event ${stored.position} came behind ${this.position}`, facts);
    }
    this.position = stored.position;
  }

  /**
   * @param {any} frame SubscribeResponse of the wire
   * @returns {StoredEvent[]} what is to be handed out
   */
  #take({ frame: kind, confirmed, events, gap, checkpoint, caughtUp, heartbeat }) {
    if (kind !== "confirmed") {
      this.#backoff.reset();
      this.#patience.watch(0, false);
    }
    if (kind === "events") {
      this.head = BigInt(events.head);
      return events.events.map(fromWire);
    }
    if (kind === "confirmed") {
      this.position = BigInt(confirmed.afterPosition);
      this.head = BigInt(confirmed.head);
    } else if (kind === "checkpoint") this.position = BigInt(checkpoint.position);
    else if (kind === "heartbeat") this.position = this.head = BigInt(heartbeat.head);
    else if (kind === "caughtUp") this.head = BigInt(caughtUp.head);
    else if (kind === "gap") this.#note(gap);
    this.#options.onFrame?.(kind);
    return [];
  }

  /** @param {{month: string, reason: string}} told */
  #note({ month, reason }) {
    const gap = /** @type {Gap} */ ({ month, reason: reason.replace("GAP_REASON_MONTH_", "").toLowerCase() });
    if (!this.gaps.some((known) => known.month === month && known.reason === gap.reason)) this.gaps.push(gap);
  }

  /**
   * After a stream has broken: gives up, or waits as long as it is wise before the next one.
   * @param {any} broken what grpc-js, or a callback, threw
   */
  async #waitOut(broken) {
    if (!(broken instanceof TrackdError) && typeof broken.code !== "number") throw broken;
    const error = fromServiceError(broken);
    this.#patience.watch(performance.now(), true);
    const leftMs = this.#patience.leftMs(performance.now());
    const delayMs = this.#backoff.nextDelayMs(error.retryAfterMs);
    if (breaksForGood(error) || leftMs <= delayMs) throw error;
    this.#options.onInterruption?.(error);
    await this.#closing.wait(delayMs);
  }
}
