/**
 * One AppendStream call as the Appender sees it.
 */
import { status } from "@grpc/grpc-js";
import { appendStream } from "./contract.js";
import { fromServiceError } from "./errors.js";

/** @typedef {import("./errors.js").TrackdError} TrackdError */

/** An open call. It ends once, by itself or by `cancel`; nothing is received afterwards. */
export class Stream {
  ended = false;
  /** The transport takes no more for now. */
  blocked = false;
  /** @type {TrackdError | null} Why it ended; null for a regular end. */
  error = null;
  /** Since when something is waited for: the opening, or the answer to the oldest batch. */
  sendingSinceMs = performance.now();
  #call;
  #changed;

  /**
   * Opens it and sends the first message.
   * @param {import("@grpc/grpc-js").Client} channel
   * @param {Buffer} opening
   * @param {(stream: Stream, response: any) => void} receive hears of each AppendStreamResponse
   * @param {() => void} changed is called when it has ended or takes more again
   */
  constructor(channel, opening, receive, changed) {
    this.#changed = changed;
    const { path, responseDeserialize } = appendStream;
    this.#call = channel.makeBidiStreamRequest(path, (/** @type {Buffer} */ frame) => frame, responseDeserialize);
    this.#call.on("data", (response) => {
      if (!this.ended) receive(this, response);
    });
    this.#call.on("error", (error) => this.end(fromServiceError(error)));
    this.#call.on("status", ({ code }) => {
      if (code === status.OK) this.end(null);
    });
    this.#call.on("drain", () => {
      this.blocked = false;
      changed();
    });
    this.write(opening);
  }

  /** @param {Buffer} frame */
  write(frame) {
    this.blocked = !this.#call.write(frame);
  }

  /** Says that nothing more will be sent; the daemon answers what is in flight and ends the stream. */
  finish() {
    this.#call.end();
  }

  /** Breaks it off, unless it has ended. */
  cancel() {
    if (this.ended) return;
    this.ended = true;
    this.#call.cancel();
  }

  /**
   * It is over.
   * @param {TrackdError | null} error
   */
  end(error) {
    if (this.ended) return;
    this.ended = true;
    // Where the Appender had a reason to end it, that says more than CANCELLED.
    this.error ??= error;
    this.#call.cancel();
    this.#changed();
  }
}
