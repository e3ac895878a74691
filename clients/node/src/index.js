/**
 * trackd-client: send events to a trackd daemon and ask it questions.
 *
 * Client asks, follows, and sends one batch at a time; Appender sends many and resends what was not acknowledged.
 */
export { Appender } from "./appender.js";
export { Backoff } from "./backoff.js";
export { DEFAULT_TARGET } from "./channel.js";
export { Client } from "./client.js";
export {
  DeadlineExceededError, ExhaustedError, GaveUpError, InternalError, InvalidError, NotFoundError, OutOfRangeError,
  PreconditionError, TrackdError, UnavailableError, UnreachableError,
} from "./errors.js";
export { newEvent, newId } from "./events.js";
export { Subscription } from "./subscription.js";

/** @typedef {import("./appender.js").AppenderOptions} AppenderOptions */
/** @typedef {import("./client.js").AppendItem} AppendItem */
/** @typedef {import("./client.js").AppendResult} AppendResult */
/** @typedef {import("./client.js").EventFilter} EventFilter */
/** @typedef {import("./client.js").Question} Question */
/** @typedef {import("./client.js").Table} Table */
/** @typedef {import("./events.js").Change} Change */
/** @typedef {import("./events.js").StoredEvent} StoredEvent */
/** @typedef {import("./events.js").TrackdEvent} TrackdEvent */
/** @typedef {import("./outcomes.js").Rejection} Rejection */
/** @typedef {import("./outcomes.js").Result} Result */
/** @typedef {import("./outcomes.js").Totals} Totals */
