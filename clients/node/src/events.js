/**
 * Events as programs write them, and as they go over the wire.
 */
import { randomFillSync } from "node:crypto";
import { Event } from "./contract.js";

/** @typedef {number | bigint | string} Integer A whole number of 64 bits; a string holds decimal digits. */
/** @typedef {string | Record<string, unknown>} Json One JSON object, or its text. */

/**
 * @typedef {object} Change Which row was changed, how, from what to what.
 * @property {string} tableName
 * @property {string} [rowId]
 * @property {"create" | "update" | "delete"} action
 * @property {Json} [oldValues]
 * @property {Json} [newValues]
 * @property {"success" | "failed"} [status]
 * @property {Integer} [rowsAffected]
 */

/**
 * @typedef {object} EventFields
 * @property {Uint8Array} [id] 16 bytes, best a UUIDv7
 * @property {string} [userId]
 * @property {Integer} [timestampMs] milliseconds since 1970
 * @property {string} [sessionId]
 * @property {string} [clientIp]
 * @property {string} [description]
 * @property {Iterable<string>} [tags]
 * @property {Json} [metadata]
 * @property {Change} [change]
 */

/** @typedef {EventFields & {type: string}} TrackdEvent An event to send. */

/**
 * @typedef {object} StoredEvent An event as the store holds it.
 * @property {bigint} position
 * @property {string} source
 * @property {number} receivedMs
 * @property {Required<Omit<EventFields, "change" | "metadata" | "tags" | "timestampMs">> & {
 *   type: string, timestampMs: number, tags: string[], metadata: string, change: StoredChange | null}} event
 */

/**
 * @typedef {object} StoredChange
 * @property {string} tableName
 * @property {string} rowId
 * @property {"create" | "update" | "delete"} action
 * @property {string} oldValues
 * @property {string} newValues
 * @property {"success" | "failed"} status
 * @property {bigint | null} rowsAffected
 */

const ID_BYTES = 16;
const TIME_MS_MAX = 2 ** 48 - 1;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const EVENT_FIELDS = new Set([
  "id", "type", "userId", "timestampMs", "sessionId", "clientIp", "description", "tags", "metadata", "change",
]);
const CHANGE_FIELDS = new Set([
  "tableName", "rowId", "action", "oldValues", "newValues", "status", "rowsAffected",
]);
const ACTIONS = { create: 1, update: 2, delete: 3 };
const STATUSES = { success: 1, failed: 2 };

// One call into the system gives the bits of many ids.
const drawn = Buffer.alloc(256 * ID_BYTES);
let used = drawn.length;

/**
 * 16 bytes of a UUIDv7 (RFC 9562, 5.7), of this moment or of the given one. Its first 48 bits are the milliseconds, so
 * ids of rising times rise: the store's unique index stays fast.
 * @param {Integer} [timestampMs]
 * @returns {Buffer}
 */
export function newId(timestampMs = Date.now()) {
  if (used === drawn.length) {
    randomFillSync(drawn);
    used = 0;
  }
  const id = Buffer.from(drawn.subarray(used, used + ID_BYTES));
  used += ID_BYTES;
  id.writeUIntBE(Math.min(Math.max(Number(timestampMs), 0), TIME_MS_MAX), 0, 6);
  id[6] = 0x70 | (id[6] & 0x0f);
  id[8] = 0x80 | (id[8] & 0x3f);
  return id;
}

/**
 * An event that can be sent any number of times and is stored once: with an id, and with the time of now if you give
 * neither. Nothing else is checked here: the daemon says what it refuses, and why.
 * @param {string} type
 * @param {EventFields} [fields]
 * @returns {TrackdEvent & {id: Uint8Array}}
 */
export function newEvent(type, fields = {}) {
  const timestampMs = fields.timestampMs ?? (fields.id ? undefined : Date.now());
  return { ...fields, type, timestampMs, id: fields.id ?? newId(timestampMs) };
}

/**
 * The event as bytes of the wire. TypeError or RangeError for what no event can hold: a field that does not exist would
 * be lost without a word, an integer in a double would be another one.
 * @param {TrackdEvent} event
 * @returns {Buffer}
 */
export function encode(event) {
  return Event.serialize(toWire(event));
}

/**
 * What proto-loader takes for a message Event.
 * @param {TrackdEvent} event
 */
export function toWire(event) {
  refuseUnknown(event, EVENT_FIELDS, "an event");
  const { timestampMs, tags, metadata, change, ...texts } = event;
  return {
    ...texts,
    tags: tags && [...tags],
    timestampMs: timestampMs === undefined ? undefined : int64(timestampMs, "timestampMs"),
    metadata: json(metadata),
    change: change && wireChange(change),
  };
}

/** @param {Change} change */
function wireChange(change) {
  refuseUnknown(change, CHANGE_FIELDS, "a change");
  const { action, oldValues, newValues, status, rowsAffected, ...texts } = change;
  return {
    ...texts,
    action: named(ACTIONS, action, "action"),
    oldValues: json(oldValues),
    newValues: json(newValues),
    status: named(STATUSES, status, "status"),
    rowsAffected: rowsAffected === undefined ? undefined : int64(rowsAffected, "rowsAffected"),
  };
}

/**
 * @param {object} given
 * @param {Set<string>} known
 * @param {string} what
 */
function refuseUnknown(given, known, what) {
  for (const name of Object.keys(given)) {
    if (!known.has(name)) throw new TypeError(`${what} has no field ${name}; it has ${[...known].join(", ")}`);
  }
}

/**
 * @param {Record<string, number>} names
 * @param {string | undefined} value
 * @param {string} field
 */
function named(names, value, field) {
  if (value === undefined) return undefined;
  if (!Object.hasOwn(names, value)) {
    throw new TypeError(`${field} must be one of ${Object.keys(names).join(", ")}, not ${value}`);
  }
  return names[value];
}

/** @param {Json | undefined} value */
function json(value) {
  return value === undefined || typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * A whole number of 64 bits as decimal digits, which is what protobuf gets without loss.
 * @param {Integer} value
 * @param {string} field
 * @returns {string}
 */
export function int64(value, field) {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(`${field}: ${value} is not a whole number that a double holds exactly; give a bigint`);
  }
  let whole;
  try {
    whole = BigInt(value);
  } catch {
    throw new TypeError(`${field}: ${String(value)} is not a whole number`);
  }
  if (whole < INT64_MIN || whole > INT64_MAX) throw new RangeError(`${field}: ${value} does not fit into 64 bits`);
  return whole.toString();
}

/**
 * @param {any} stored a StoredEvent of the wire
 * @returns {StoredEvent}
 */
export function fromWire({ position, event, source, receivedMs }) {
  const { id, type, userId, timestampMs, sessionId, clientIp, description, tags, metadata, change } = event;
  return {
    position: BigInt(position),
    source,
    receivedMs: Number(receivedMs),
    event: {
      id,
      type,
      userId,
      timestampMs: Number(timestampMs),
      sessionId,
      clientIp,
      description,
      tags,
      metadata,
      change: change && storedChange(change),
    },
  };
}

/**
 * @param {any} change
 * @returns {StoredChange}
 */
function storedChange({ tableName, rowId, action, oldValues, newValues, status, rowsAffected }) {
  return {
    tableName,
    rowId,
    action: action.replace("CHANGE_ACTION_", "").toLowerCase(),
    oldValues,
    newValues,
    status: status.replace("CHANGE_STATUS_", "").toLowerCase(),
    rowsAffected: rowsAffected === undefined ? null : BigInt(rowsAffected),
  };
}
