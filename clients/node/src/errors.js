/**
 * What can go wrong, as one tree: made from gRPC errors and from the statuses that answers carry.
 */
import { status as grpcStatus } from "@grpc/grpc-js";
import { ErrorInfo, RetryInfo, Status } from "./contract.js";

/**
 * @typedef {object} Facts What the daemon, or gRPC, says about an error.
 * @property {string} [code]
 * @property {string} [reason]
 * @property {string} [hint]
 * @property {boolean} [retryable]
 * @property {number | null} [retryAfterMs]
 */

/** Root of all errors of this package. */
export class TrackdError extends Error {
  /**
   * @param {string} message
   * @param {Facts} [facts]
   */
  constructor(message, { code = "", reason = "", hint = "", retryable = false, retryAfterMs = null } = {}) {
    const told = reason ? `${reason}: ${message}` : message;
    super(hint && !message.includes(hint) ? `${told} (${hint})` : told);
    this.name = new.target.name;
    /** Name of the gRPC status code, "" where there was none. */
    this.code = code;
    /** The daemon's machine word, the same as in its metrics and logs; "" where it said nothing. */
    this.reason = reason;
    /** What to do. */
    this.hint = hint;
    /** Whether the same call, made later, may succeed. */
    this.retryable = retryable;
    /** @type {number | null} How much later, at least, if the daemon said so. */
    this.retryAfterMs = retryAfterMs;
  }
}

/** The request itself is at fault; sent again unchanged it fails again. */
export class InvalidError extends TrackdError {}
/** Nobody answered at the target, or the connection broke: the outcome of the call is unknown. */
export class UnreachableError extends TrackdError {}
/** The daemon answered: not now. */
export class UnavailableError extends TrackdError {}
/** A quota or limit is used up. */
export class ExhaustedError extends TrackdError {}
/** The request is well-formed and the state of the store forbids it. */
export class PreconditionError extends TrackdError {}
/** The thing asked about does not exist. */
export class NotFoundError extends TrackdError {}
/** A position or cursor outside of what is kept. */
export class OutOfRangeError extends TrackdError {}
/** No answer in time: the outcome of the call is unknown. */
export class DeadlineExceededError extends TrackdError {}
/** The daemon, or something between here and it, has failed. */
export class InternalError extends TrackdError {}

/**
 * An Appender stopped trying. What it has not acknowledged may or may not be stored; sending it again is safe, the same
 * ids are stored once.
 */
export class GaveUpError extends TrackdError {
  /**
   * @param {string} message
   * @param {number} unacknowledged events handed over and never answered
   * @param {TrackdError | null} cause
   */
  constructor(message, unacknowledged, cause) {
    super(message, {
      code: cause?.code,
      reason: cause?.reason || "NO_PROGRESS",
      hint: "send them again when the daemon is well: events that are stored already are only counted",
      retryable: true,
    });
    /** Events handed over and never answered. */
    this.unacknowledged = unacknowledged;
    this.cause = cause;
  }
}

/** @type {Record<string, typeof TrackdError>} */
const KINDS = {
  INVALID_ARGUMENT: InvalidError,
  UNIMPLEMENTED: InvalidError,
  UNAVAILABLE: UnavailableError,
  CANCELLED: UnreachableError,
  RESOURCE_EXHAUSTED: ExhaustedError,
  FAILED_PRECONDITION: PreconditionError,
  ABORTED: PreconditionError,
  ALREADY_EXISTS: PreconditionError,
  NOT_FOUND: NotFoundError,
  OUT_OF_RANGE: OutOfRangeError,
  DEADLINE_EXCEEDED: DeadlineExceededError,
  INTERNAL: InternalError,
  UNKNOWN: InternalError,
  DATA_LOSS: InternalError,
};
const RETRYABLE = new Set(["UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "CANCELLED"]);
const BROKEN = new Set([...RETRYABLE, "INTERNAL", "UNKNOWN"]);

/**
 * The error that a google.rpc.Status states, for example the refusal of one batch within a stream.
 * @param {{code: number, message: string, details: {type_url: string, value: Buffer}[]}} status
 */
export function fromStatus(status) {
  return made(grpcStatus[status.code] ?? "UNKNOWN", status.message, facts(status.details));
}

/**
 * The error that ended a call. Without the daemon's own details, UNAVAILABLE means that nobody answered.
 * @param {any} error what grpc-js gave
 */
export function fromServiceError(error) {
  if (error instanceof TrackdError) return error;
  const code = grpcStatus[error.code] ?? "UNKNOWN";
  let text = error.details || error.message;
  /** @type {Facts} */
  let told = {};
  for (const value of error.metadata?.get("grpc-status-details-bin") ?? []) {
    try {
      const status = Status.deserialize(value);
      told = facts(status.details);
      text = status.message || text;
    } catch {
      continue; // a proxy's idea of details: the code alone has to do
    }
  }
  const [pushback] = error.metadata?.get("grpc-retry-pushback-ms") ?? [];
  if (told.retryAfterMs === undefined && /^\d+$/.test(pushback ?? "")) told.retryAfterMs = Number(pushback);
  if (code === "UNAVAILABLE" && !told.reason && told.retryAfterMs === undefined) {
    return new UnreachableError(text, { code, retryable: true });
  }
  return made(code, text, told);
}

/**
 * Whether a stream that ended with this error would end so again: opening another one is useless. INTERNAL and UNKNOWN
 * are what gRPC reports for connections cut off in the middle, so they are tried again.
 * @param {TrackdError} error
 */
export function breaksForGood(error) {
  return error.retryAfterMs === null && !BROKEN.has(error.code);
}

/**
 * @param {string} code
 * @param {string} text
 * @param {Facts} told
 */
function made(code, text, told) {
  const Kind = KINDS[code] ?? TrackdError;
  const retryable = RETRYABLE.has(code) || told.retryAfterMs !== undefined;
  return new Kind(text || code, { code, retryable, ...told });
}

/**
 * @param {{type_url: string, value: Buffer}[]} details
 * @returns {Facts}
 */
function facts(details) {
  /** @type {Facts} */
  const told = {};
  for (const { type_url: typeUrl, value } of details) {
    try {
      Object.assign(told, fact(typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value));
    } catch {
      continue; // garbled; the code still says something
    }
  }
  return told;
}

/**
 * @param {string} type
 * @param {Buffer} value
 * @returns {Facts} what one detail says
 */
function fact(type, value) {
  if (type === "google.rpc.ErrorInfo") {
    const info = ErrorInfo.deserialize(value);
    return { reason: info.reason, hint: info.metadata.hint ?? "" };
  }
  if (type === "google.rpc.RetryInfo") {
    const delay = RetryInfo.deserialize(value).retryDelay;
    return { retryAfterMs: delay ? delay.seconds * 1_000 + Math.ceil(delay.nanos / 1e6) : 0 };
  }
  return {};
}
