/**
 * What became of events that were sent in batches, and what an answer means for the sender.
 */
import { Event } from "./contract.js";
import { fromStatus } from "./errors.js";
import { Batch } from "./framing.js";
import { ProtocolViolation } from "./window.js";

/** @typedef {import("./framing.js").Entry} Entry */
/** @typedef {import("./errors.js").TrackdError} TrackdError */

/** How often a batch is sent again after INTERNAL: a restart cures it, a defect that it provokes stays. */
export const DEFECTS_MAX = 5;

/**
 * @typedef {object} Totals Sums over final answers.
 * @property {number} accepted stored
 * @property {number} duplicate stored already, a success
 * @property {number} rejected not stored
 * @property {number} queued taken at level "accepted", their outcome unknown
 */

/**
 * @typedef {object} Rejection One event that is not stored.
 * @property {number} sequence its place, from 0, among all events given to the Appender
 * @property {any} event as the contract's Event
 * @property {string} reason
 * @property {string} message
 * @property {string} field
 */

/**
 * @typedef {object} Result What is final of the answer to one batch.
 * @property {number} accepted
 * @property {number} duplicate
 * @property {number} rejected
 * @property {number} queued
 * @property {bigint | null} lastPosition
 * @property {Rejection[]} rejections
 * @property {TrackdError | null} error set where the daemon refused the batch as a whole; then all of it is rejected
 */

/**
 * @typedef {object} Verdict What an answer means: what is final, what is to be sent again, or both.
 * @property {Result | null} result
 * @property {Batch | null} again
 * @property {TrackdError | null} error why it is to be sent again, where the daemon refused the batch as a whole
 */

/**
 * Throws ProtocolViolation for an answer that is not about each event: what is not known to be stored must not be
 * forgotten.
 * @param {Batch} batch
 * @param {any} answer AppendBatchAnswer of the wire
 * @returns {Verdict}
 */
export function judge(batch, answer) {
  if (answer.outcome === "error") return judgeRefusal(batch, fromStatus(answer.error));
  if (answer.outcome === "result") return judgeResult(batch, answer.result);
  throw new ProtocolViolation(`the answer to batch ${batch.id} says nothing`);
}

/**
 * @param {Batch} batch
 * @param {TrackdError} error
 * @returns {Verdict}
 */
function judgeRefusal(batch, error) {
  // Of INTERNAL the outcome is unknown. The ids make sending again safe, so a daemon gets the chance to restart.
  const defect = !error.retryable && (error.code === "INTERNAL" || error.code === "UNKNOWN");
  if (error.retryable || (defect && batch.defects < DEFECTS_MAX)) {
    return { result: null, again: new Batch(batch.entries, batch.defects + Number(defect)), error };
  }
  const item = { reason: error.reason || error.code, message: error.message, field: "" };
  const rejections = batch.entries.map((entry) => rejection(entry, item));
  const none = { accepted: 0, duplicate: 0, queued: 0, lastPosition: null };
  return { result: { ...none, rejected: rejections.length, rejections, error }, again: null, error: null };
}

/**
 * @param {Batch} batch
 * @param {any} told AppendResult of the wire
 * @returns {Verdict}
 */
function judgeResult(batch, told) {
  const counts = [told.accepted, told.duplicate, told.rejected, told.queued].map(Number);
  if (Math.min(...counts) < 0 || counts.reduce((sum, count) => sum + count) !== batch.entries.length) {
    throw new ProtocolViolation(`the answer to batch ${batch.id} is not about its ${batch.entries.length} events`);
  }
  const refused = told.items.filter((/** @type {any} */ item) => item.outcome === "APPEND_OUTCOME_REJECTED");
  const named = new Set(refused.map((/** @type {any} */ item) => Number(item.index)));
  if (named.size !== Number(told.rejected) || ![...named].every((index) => index in batch.entries)) {
    throw new ProtocolViolation(`the answer to batch ${batch.id} does not name what it rejects`);
  }
  const entry = (/** @type {any} */ item) => batch.entries[Number(item.index)];
  const retryable = refused.filter((/** @type {any} */ item) => item.retryable);
  const final = refused.filter((/** @type {any} */ item) => !item.retryable);
  const result = {
    accepted: Number(told.accepted),
    duplicate: Number(told.duplicate),
    rejected: Number(told.rejected) - retryable.length,
    queued: Number(told.queued),
    lastPosition: told.lastPosition === undefined ? null : BigInt(told.lastPosition),
    rejections: final.map((/** @type {any} */ item) => rejection(entry(item), item)),
    error: null,
  };
  return { result, again: retryable.length ? new Batch(retryable.map(entry), batch.defects) : null, error: null };
}

/**
 * @param {Entry} entry
 * @param {{reason: string, message: string, field: string}} item
 * @returns {Rejection}
 */
function rejection({ sequence, bytes }, { reason, message, field }) {
  return { sequence, event: Event.deserialize(bytes), reason, message, field };
}

/**
 * @param {Totals} totals
 * @param {Result} result
 * @returns {Totals} these totals and one more result
 */
export function plus(totals, result) {
  return {
    accepted: totals.accepted + result.accepted,
    duplicate: totals.duplicate + result.duplicate,
    rejected: totals.rejected + result.rejected,
    queued: totals.queued + result.queued,
  };
}

/**
 * How many events have their final answer.
 * @param {Totals | Result} totals
 */
export function answered({ accepted, duplicate, rejected, queued }) {
  return accepted + duplicate + rejected + queued;
}
