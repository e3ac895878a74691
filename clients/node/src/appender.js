/**
 * Sending many events so that each is stored once, whatever happens to the daemon or the connection in between.
 *
 * What to do is decided by window.js, outcomes.js and backoff.js; this module only does it.
 */
import { Backoff, Patience } from "./backoff.js";
import { defaultTarget, openChannel } from "./channel.js";
import { DeadlineExceededError, GaveUpError, InternalError, InvalidError, breaksForGood } from "./errors.js";
import { encode, newId } from "./events.js";
import { BATCH_OVERHEAD_BYTES, Batch, entrySize, openFrame } from "./framing.js";
import { answered, judge, plus } from "./outcomes.js";
import { Signal } from "./signal.js";
import { Stream } from "./stream.js";
import { ProtocolViolation, Window, limitsTold } from "./window.js";

/** @typedef {import("./errors.js").TrackdError} TrackdError */
/** @typedef {import("./events.js").TrackdEvent} TrackdEvent */
/** @typedef {import("./outcomes.js").Result} Result */
/** @typedef {import("./outcomes.js").Totals} Totals */
/** @typedef {import("./framing.js").Entry} Entry */
/** @typedef {TrackdEvent | Iterable<TrackdEvent> | AsyncIterable<TrackdEvent>} Events */

/**
 * @typedef {object} AppenderOptions
 * @property {string} source the name of the service that sends
 * @property {"durable" | "accepted"} [durability]
 * @property {(result: Result) => void} [onResult] hears of each final answer, in the order of answers
 * @property {number} [batchEvents] events in one batch
 * @property {number} [batchBytes] encoded size of one batch
 * @property {number} [lingerMs] so long a batch may wait to be filled (100); Infinity: until flush or close
 * @property {number} [windowBatches] batches without a final answer
 * @property {number} [windowBytes] their encoded size
 * @property {number} [giveUpAfterMs] so long nothing gets its final answer, then the Appender stops trying
 * @property {number} [answerTimeoutMs] a stream on which the oldest batch waits longer for its answer is replaced
 * @property {Backoff} [backoff]
 * @property {import("./channel.js").Tls | boolean} [tls] as for Client
 * @property {string | (() => string)} [token] as for Client
 * @property {import("@grpc/grpc-js").ChannelOptions} [channelOptions]
 */

const MIB = 1024 * 1024;
/** The transport takes messages of 8 MiB; a larger one would end the stream instead of being refused. */
const EVENT_BYTES_MAX = 7 * MIB;

/**
 * Sends events over AppendStream and sends again what was not answered.
 *
 * The daemon must know each event when it comes again, so an event without an id gets one. A broken stream, a killed
 * daemon, a refusal "for now": all are waited out with backoff, up to `giveUpAfterMs` in which nothing gets its final
 * answer. Memory is bounded by `windowBatches` and `windowBytes`: await `send`, it waits while they are full.
 *
 * What `onResult` throws ends the Appender: the next call throws it. An open Appender keeps the process alive.
 */
export class Appender {
  #options;
  #opening;
  #channel;
  #window;
  #backoff;
  #patience;
  #changed = new Signal();
  #supervisor;
  /** @type {Totals} */
  #totals = { accepted: 0, duplicate: 0, rejected: 0, queued: 0 };
  /** @type {Entry[]} */
  #part = [];
  #partBytes = BATCH_OVERHEAD_BYTES;
  /** @type {NodeJS.Timeout | undefined} */
  #lingering;
  #sequence = 0;
  /** @type {Promise<unknown>} The last of those who hand over: one after the other, so that order is kept. */
  #turn = Promise.resolve();
  #closing = false;
  #closingSinceMs = 0;
  #pausedUntilMs = 0;
  /** @type {TrackdError | null} */
  #lastError = null;
  /** @type {unknown} */
  #failure = null;

  /**
   * @param {string | undefined} target HOST:PORT; undefined: TRACKD_TARGET of the environment, or 127.0.0.1:7077
   * @param {AppenderOptions} options
   */
  constructor(target, options) {
    this.target = target ?? defaultTarget();
    this.#options = {
      durability: /** @type {"durable" | "accepted"} */ ("durable"),
      onResult: /** @type {(result: Result) => void} */ (() => {}),
      batchEvents: 1_000,
      batchBytes: MIB,
      lingerMs: 100,
      windowBatches: 32,
      windowBytes: 16 * MIB,
      giveUpAfterMs: 60_000,
      answerTimeoutMs: 20_000,
      ...options,
    };
    const { source, durability, batchEvents, batchBytes, windowBatches, windowBytes, giveUpAfterMs } = this.#options;
    if (typeof source !== "string") throw new TypeError("source must name the service that sends");
    if (!(Math.min(batchEvents, batchBytes, windowBatches, windowBytes) >= 1)) {
      throw new RangeError("batchEvents, batchBytes, windowBatches and windowBytes must be positive");
    }
    this.#options.batchBytes = Math.min(batchBytes, EVENT_BYTES_MAX);
    this.#opening = openFrame(source, durability);
    this.#window = new Window(windowBatches, windowBytes);
    this.#backoff = options.backoff ?? new Backoff();
    this.#patience = new Patience(giveUpAfterMs);
    // gRPC's own retries would keep a copy of every message that was sent.
    const channelOptions = { "grpc.enable_retries": 0, ...options.channelOptions };
    this.#channel = openChannel(this.target, { tls: options.tls, token: options.token, channelOptions });
    this.#supervisor = this.#supervise();
  }

  /** The sums over all final answers so far. */
  get totals() {
    return { ...this.#totals };
  }

  /** Events handed over and not finally answered. */
  get unacknowledged() {
    return this.#sequence - answered(this.#totals);
  }

  /**
   * Takes over one event or many, in order; waits while the window is full. A batch goes out when it is full, after
   * `lingerMs`, or with flush or close. Throws GaveUpError, what onResult threw, or what is wrong with an event;
   * those before it are taken over.
   * @param {Events} events
   */
  async send(events) {
    await this.#inTurn(async () => {
      const many = Symbol.asyncIterator in events || Symbol.iterator in events ? events : [events];
      for await (const event of many) await this.#take(event);
    });
  }

  /**
   * Waits until everything handed over has its final answer; throws like send.
   * @returns {Promise<Totals>}
   */
  async flush() {
    await this.#inTurn(() => this.#handOver());
    while (!this.#failure && !this.#window.empty) await this.#changed.wait();
    this.#throwFailure();
    return this.totals;
  }

  /**
   * Flushes, ends the stream in order and returns the totals. Throws like send, and is closed even then. Closing twice
   * is fine.
   * @returns {Promise<Totals>}
   */
  async close() {
    try {
      await this.flush();
    } finally {
      await this.#stop();
    }
    this.#throwFailure();
    return this.totals;
  }

  /** Ends at once; what is not answered may or may not be stored. See `unacknowledged`. */
  async abort() {
    if (this.unacknowledged) this.#failure ??= new GaveUpError("aborted", this.unacknowledged, null);
    await this.#stop();
  }

  async #stop() {
    this.#closing = true;
    this.#closingSinceMs = now();
    clearTimeout(this.#lingering);
    this.#changed.notify();
    await this.#supervisor;
    this.#channel.close();
  }

  #throwFailure() {
    if (this.#failure) throw this.#failure;
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#failure ??= error;
    this.#changed.notify();
  }

  // Taking over

  /** @param {() => Promise<void>} action */
  async #inTurn(action) {
    const turn = this.#turn.then(action);
    this.#turn = turn.catch(() => {});
    await turn;
  }

  /** @param {TrackdEvent} event */
  async #take(event) {
    if (this.#closing) throw new Error("the Appender is closed");
    const bytes = encode(event.id ? event : { ...event, id: newId(event.timestampMs) });
    const entry = { sequence: this.#sequence, bytes };
    const size = entrySize(entry);
    if (size > EVENT_BYTES_MAX) {
      throw new InvalidError(`one event of ${size} bytes; no daemon takes more than ${EVENT_BYTES_MAX}`);
    }
    if (this.#part.length && this.#partBytes + size > this.#options.batchBytes) await this.#handOver();
    entry.sequence = this.#sequence++;
    if (!this.#part.length && this.#options.lingerMs < Infinity) {
      this.#lingering = setTimeout(() => this.#lingered(), this.#options.lingerMs);
    }
    this.#part.push(entry);
    this.#partBytes += size;
    if (this.#part.length >= this.#options.batchEvents) await this.#handOver();
  }

  async #handOver() {
    this.#throwFailure();
    if (!this.#part.length) return;
    const batch = this.#takePart();
    while (!this.#failure && !this.#window.hasRoom) await this.#changed.wait();
    this.#throwFailure();
    this.#add(batch);
  }

  /** The batch that is being filled has waited long enough. It goes as it is, unless it is handed over meanwhile. */
  async #lingered() {
    const part = this.#part;
    while (!this.#failure && part === this.#part && !this.#window.hasRoom) await this.#changed.wait();
    if (!this.#failure && part === this.#part) this.#add(this.#takePart());
  }

  #takePart() {
    clearTimeout(this.#lingering);
    const batch = new Batch(this.#part);
    this.#part = [];
    this.#partBytes = BATCH_OVERHEAD_BYTES;
    return batch;
  }

  /** @param {Batch} batch */
  #add(batch) {
    this.#window.add(batch);
    this.#patience.watch(now(), true);
    this.#changed.notify();
  }

  // Streams, one after the other

  async #supervise() {
    try {
      while (await this.#hasWork()) {
        await this.#runStream();
        await this.#waitOut();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Resolves once there is something to send; false once the Appender is closed or has failed. */
  async #hasWork() {
    while (!this.#done && this.#window.empty) await this.#changed.wait();
    return !this.#done;
  }

  get #done() {
    return Boolean(this.#failure) || (this.#closing && this.#window.empty);
  }

  /** Opens one stream and stays until it has ended, by itself or because it must. */
  async #runStream() {
    const receive = (/** @type {Stream} */ of, /** @type {any} */ response) => this.#receive(of, response);
    const stream = new Stream(this.#channel, this.#opening, receive, () => this.#changed.notify());
    let finishing = false;
    while (!stream.ended && !this.#failure) {
      this.#pump(stream);
      if (this.#done && !finishing) {
        finishing = true;
        stream.finish();
      }
      const overdueMs = this.#untilOverdueMs(stream);
      if (overdueMs <= 0) break;
      const pauseMs = this.#pausedUntilMs - now();
      await this.#changed.wait(pauseMs > 0 ? Math.min(overdueMs, pauseMs) : overdueMs);
    }
    stream.cancel();
    this.#lastError = stream.error ?? this.#lastError;
    this.#window.lost();
    this.#changed.notify();
  }

  /**
   * Sends what may be sent now.
   * @param {Stream} stream
   */
  #pump(stream) {
    while (!stream.blocked && now() >= this.#pausedUntilMs) {
      const wasIdle = !this.#window.awaitingAnswer;
      const batch = this.#window.take();
      if (!batch) return;
      if (wasIdle) stream.sendingSinceMs = now();
      stream.write(batch.frame());
    }
  }

  /**
   * Milliseconds that this stream may go on without anything happening; at most 0: it must end.
   * @param {Stream} stream
   */
  #untilOverdueMs(stream) {
    const nowMs = now();
    const leftMs = this.#patience.leftMs(nowMs);
    if (!this.#window.awaitingAnswer && this.#window.limits !== null && !this.#closing) return leftMs;
    const { answerTimeoutMs } = this.#options;
    const overdueMs = Math.max(stream.sendingSinceMs, this.#closingSinceMs) + answerTimeoutMs - nowMs;
    if (overdueMs <= 0) {
      const facts = { code: "DEADLINE_EXCEEDED", retryable: true };
      stream.error ??= new DeadlineExceededError(`no answer within ${answerTimeoutMs} ms`, facts);
    }
    return Math.min(leftMs, overdueMs);
  }

  /** After a stream has ended: gives up, or waits as long as it is wise before the next one. */
  async #waitOut() {
    if (this.#done || this.#window.empty) return;
    const error = this.#lastError;
    if (error && breaksForGood(error)) this.#giveUp(`the daemon refuses the stream: ${error.message}`);
    const leftMs = this.#patience.leftMs(now());
    const delayMs = this.#backoff.nextDelayMs(error?.retryAfterMs);
    await this.#sleep(Math.min(leftMs, delayMs));
    if (!this.#done && leftMs <= delayMs) {
      const told = error ? `; the last error: ${error.message}` : "";
      this.#giveUp(`no batch was answered for ${this.#options.giveUpAfterMs} ms${told}`);
    }
  }

  /** @param {number} delayMs */
  async #sleep(delayMs) {
    const endMs = now() + delayMs;
    while (!this.#done && now() < endMs) await this.#changed.wait(endMs - now());
  }

  /**
   * @param {string} why
   * @returns {never}
   */
  #giveUp(why) {
    const count = this.unacknowledged;
    throw new GaveUpError(`${count} events were not acknowledged: ${why}`, count, this.#lastError);
  }

  // Answers

  /**
   * A daemon that breaks the contract ends the stream; a user's callback that throws ends the Appender.
   * @param {Stream} stream
   * @param {any} response AppendStreamResponse of the wire
   */
  #receive(stream, response) {
    if (this.#failure) return;
    try {
      if (response.message === "opened") this.#window.opened(limitsTold(response.opened.limits ?? {}));
      else if (response.message === "answer") this.#answered(response.answer);
      else throw new ProtocolViolation("a message that is neither opened nor an answer");
      stream.sendingSinceMs = now();
      this.#changed.notify();
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) return this.#fail(error);
      stream.end(new InternalError(error.message, { code: "INTERNAL", reason: "PROTOCOL_VIOLATION" }));
    }
  }

  /** @param {any} answer AppendBatchAnswer of the wire */
  #answered(answer) {
    const batch = this.#window.expect(Number(answer.batchId));
    const { result, again, error } = judge(batch, answer);
    const isFinal = result !== null && (answered(result) > 0 || !again);
    if (isFinal) this.#options.onResult(result);
    const nowMs = now();
    if (again) {
      this.#lastError = error ?? this.#lastError;
      this.#window.putBack(again);
      this.#pausedUntilMs = nowMs + this.#backoff.nextDelayMs(error?.retryAfterMs);
    } else {
      this.#window.settle();
      this.#backoff.reset();
    }
    if (isFinal) {
      this.#totals = plus(this.#totals, result);
      this.#patience.progress(nowMs);
      this.#patience.watch(nowMs, !this.#window.empty);
    }
  }
}

/** A clock that nobody sets, in milliseconds. */
function now() {
  return performance.now();
}
