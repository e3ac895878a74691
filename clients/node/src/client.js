/**
 * Asking a daemon, one call at a time. For sending many events see appender.js.
 */
import { defaultTarget, openChannel } from "./channel.js";
import { aggregate, append, countEvents, listEvents } from "./contract.js";
import { fromServiceError } from "./errors.js";
import { fromWire, int64, toWire } from "./events.js";
import { durabilityName } from "./framing.js";
import { Subscription } from "./subscription.js";

/** @typedef {import("./contract.js").Method} Method */
/** @typedef {import("./events.js").Integer} Integer */
/** @typedef {import("./events.js").TrackdEvent} TrackdEvent */
/** @typedef {import("./events.js").StoredEvent} StoredEvent */

/**
 * @typedef {object} EventFilter Which events; absent and empty members leave none out.
 * @property {Integer} [startMs] event time from here on
 * @property {Integer} [endMs] and before this
 * @property {string[]} [types]
 * @property {string[]} [userIds]
 * @property {string[]} [sources]
 * @property {string[]} [sessionIds]
 * @property {string[]} [tags]
 * @property {Integer} [afterPosition]
 * @property {Integer} [upToPosition]
 */

/**
 * @typedef {object} AppendItem One event of a batch that was not simply stored.
 * @property {number} index its place in the batch, from 0
 * @property {"duplicate" | "rejected"} outcome
 * @property {string} reason
 * @property {string} message
 * @property {string} field
 * @property {boolean} retryable whether the same event, sent later, may be taken
 * @property {bigint | null} existingPosition
 */

/**
 * @typedef {object} AppendResult What became of the events of one batch.
 * @property {number} accepted
 * @property {number} duplicate
 * @property {number} rejected
 * @property {number} queued
 * @property {bigint | null} firstPosition
 * @property {bigint | null} lastPosition
 * @property {AppendItem[]} items
 */

/**
 * @typedef {object} Question In the words of AggregateRequest, protos/trackd/v1/query.proto.
 * @property {string[]} metrics
 * @property {string[]} [dimensions]
 * @property {Integer} [startMs]
 * @property {Integer} [endMs]
 * @property {string} [timeZone]
 * @property {object} [filter] a Predicate
 * @property {{column: string, descending?: boolean}[]} [orderBy]
 * @property {number} [limit]
 * @property {boolean} [includeTotals]
 * @property {boolean} [includeEmptyBuckets]
 * @property {boolean} [comparePreviousPeriod]
 * @property {Integer} [atLeastPosition]
 */

/** @typedef {number | string | null} Value Instants are milliseconds since 1970; null is absent. */

/**
 * @typedef {object} Table The answer to an aggregate question.
 * @property {Record<string, Value>[]} rows
 * @property {Record<string, Value>} totals
 * @property {boolean} more the limit left rows out
 * @property {string[]} warnings
 * @property {bigint} asOfPosition
 */

const PAGE_SIZE_MAX = 1_000;
const LONGS = ["startMs", "endMs", "afterPosition", "upToPosition", "atLeastPosition"];

/**
 * A connection to one daemon; `close` it. Every call ends within `timeoutMs` or throws DeadlineExceededError. Calls
 * throw TrackdError and, for arguments that no call can hold, TypeError and RangeError. None is repeated by itself,
 * and only `subscribe` lasts.
 */
export class Client {
  #channel;
  #timeoutMs;

  /**
   * @param {string} [target] HOST:PORT
   * @param {{timeoutMs?: number} & import("./channel.js").Connecting} [options]
   */
  constructor(target = defaultTarget(), { timeoutMs = 30_000, ...how } = {}) {
    this.target = target;
    this.#timeoutMs = timeoutMs;
    this.#channel = openChannel(target, how);
  }

  /** Ends the connection. Closing twice is fine. */
  close() {
    this.#channel.close();
  }

  /**
   * Sends one batch and returns what became of each event: read `rejected` and `items`. When this throws
   * UnreachableError or DeadlineExceededError the outcome is unknown; sending the same events again is safe as long as
   * they carry ids (newEvent gives them one).
   * @param {Iterable<TrackdEvent>} events
   * @param {{source: string, durability?: "durable" | "accepted", atomic?: boolean}} options
   * @returns {Promise<AppendResult>}
   */
  async append(events, { source, durability = "durable", atomic = false }) {
    const wire = Array.from(events, toWire);
    const request = { source, durability: durabilityName(durability), events: wire, atomic };
    const { result } = await this.#call(append, request);
    return {
      accepted: Number(result.accepted),
      duplicate: Number(result.duplicate),
      rejected: Number(result.rejected),
      queued: Number(result.queued),
      firstPosition: position(result.firstPosition),
      lastPosition: position(result.lastPosition),
      items: result.items.map(item),
    };
  }

  /**
   * All matching events, fetched page by page while they are consumed, all cut at one head.
   * @param {EventFilter} [filter]
   * @param {{order?: "time_asc" | "time_desc" | "position_asc" | "position_desc", atLeastPosition?: Integer}} [options]
   * @returns {AsyncGenerator<StoredEvent, void>}
   */
  async *listEvents(filter = {}, { order = "time_desc", atLeastPosition } = {}) {
    const request = {
      ...longs({ atLeastPosition }),
      filter: longs(filter),
      order: `EVENT_ORDER_${order.toUpperCase()}`,
      pageSize: PAGE_SIZE_MAX,
    };
    let pageToken = "";
    do {
      const page = await this.#call(listEvents, { ...request, pageToken });
      yield* page.events.map(fromWire);
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /**
   * Matching events counted in groups; without dimensions one row with the total.
   * @param {EventFilter} [filter]
   * @param {{by?: ("type" | "month" | "source" | "user")[], atLeastPosition?: Integer}} [options]
   * @returns {Promise<{
   *   rows: {type?: string, month?: string, source?: string, userId?: string, events: number}[],
   *   events: number, asOfPosition: bigint}>}
   */
  async countEvents(filter = {}, { by = [], atLeastPosition } = {}) {
    const dimensions = by.map((name) => `COUNT_DIMENSION_${name.toUpperCase()}`);
    const request = { ...longs({ atLeastPosition }), filter: longs(filter), by: dimensions };
    const { rows, events, asOfPosition } = await this.#call(countEvents, request);
    return {
      rows: rows.map((/** @type {any} */ { type, month, source, userId, events }) => {
        const group = Object.entries({ type, month, source, userId }).filter(([, value]) => value !== undefined);
        return { ...Object.fromEntries(group), events: Number(events) };
      }),
      events: Number(events),
      asOfPosition: BigInt(asOfPosition),
    };
  }

  /**
   * A table of metrics by dimensions, for example `{ metrics: ["events", "users"], dimensions: ["time:day", "type"] }`.
   * @param {Question} question
   * @returns {Promise<Table>}
   */
  async aggregate(question) {
    const answer = await this.#call(aggregate, longs(question));
    const columns = answer.columns.map((/** @type {any} */ column) => [column.name, values(column, answer.rows)]);
    return {
      rows: Array.from({ length: answer.rows }, (_, row) =>
        Object.fromEntries(columns.map((/** @type {[string, Value[]]} */ [name, all]) => [name, all[row]])),
      ),
      totals: Object.fromEntries(answer.totals.map((/** @type {any} */ one) => [one.name, values(one, 1)[0]])),
      more: answer.more,
      warnings: answer.warnings,
      asOfPosition: BigInt(answer.asOfPosition),
    };
  }

  /**
   * Follows the daemon: an async iterable over matching events as they are stored, each once and in order, that resumes
   * by itself. It begins behind `afterPosition` (0: with the first event there is), with the first event received at or
   * after `receivedFromMs`, or, with neither, now.
   * @param {EventFilter} [filter]
   * @param {import("./subscription.js").SubscriptionOptions} [options]
   */
  subscribe(filter = {}, options = {}) {
    return new Subscription(this.#channel, longs(filter), options);
  }

  /**
   * @param {Method} method
   * @param {object} request
   * @returns {Promise<any>}
   */
  #call({ path, requestSerialize, responseDeserialize }, request) {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + this.#timeoutMs;
      this.#channel.makeUnaryRequest(
        path, requestSerialize, responseDeserialize, request, { deadline },
        (error, answer) => (error ? reject(fromServiceError(error)) : resolve(answer)),
      );
    });
  }
}

/**
 * The members with 64 bits as decimal digits.
 * @param {object} given
 */
function longs(given) {
  const entries = Object.entries(given).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, LONGS.includes(name) ? int64(value, name) : value]));
}

/** @param {string | undefined} told */
function position(told) {
  return told === undefined ? null : BigInt(told);
}

/**
 * @param {any} told AppendItem of the wire
 * @returns {AppendItem}
 */
function item({ index, outcome, reason, message, field, retryable, existingPosition }) {
  return {
    index: Number(index),
    outcome: outcome === "APPEND_OUTCOME_DUPLICATE" ? "duplicate" : "rejected",
    reason,
    message,
    field,
    retryable,
    existingPosition: position(existingPosition),
  };
}

/**
 * @param {any} column Column of the wire
 * @param {number} rows
 * @returns {Value[]}
 */
function values({ integers, reals, texts, absentRows }, rows) {
  const found = [integers.map(Number), reals, texts].find((some) => some.length) ?? [];
  const all = Array.from({ length: rows }, (_, row) => found[row] ?? null);
  for (const row of absentRows) all[row] = null;
  return all;
}
