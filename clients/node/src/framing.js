/**
 * Batches as they go over a stream. Each event is encoded once, however often it is sent; a batch is its events one
 * behind the other, each with a tag and a length (https://protobuf.dev/programming-guides/encoding/).
 */
import { AppendStreamRequest } from "./contract.js";

/** Of one event within a batch: a tag and a length of at most 5 bytes. */
export const EVENT_OVERHEAD_BYTES = 6;
/** Of the batch and of the message around it: batch_id, tags and lengths. */
export const BATCH_OVERHEAD_BYTES = 32;

const LENGTH_DELIMITED = 2;
const REQUEST_BATCH = (2 << 3) | LENGTH_DELIMITED; // AppendStreamRequest.batch = 2
const BATCH_ID = 1 << 3; // AppendBatch.batch_id = 1
const BATCH_EVENTS = (2 << 3) | LENGTH_DELIMITED; // AppendBatch.events = 2

/**
 * @typedef {object} Entry One event that was handed over.
 * @property {number} sequence its place among all events, from 0
 * @property {Buffer} bytes
 */

/** Some events that are answered together. */
export class Batch {
  /**
   * @param {Entry[]} entries at least one
   * @param {number} [defects] how often the daemon failed (INTERNAL) over it
   */
  constructor(entries, defects = 0) {
    this.entries = entries;
    this.defects = defects;
    /** Bytes on the wire, or a little more. */
    this.size = entries.reduce((sum, entry) => sum + entrySize(entry), BATCH_OVERHEAD_BYTES);
    /** Its number on the stream that it was sent on. */
    this.id = 0;
  }

  /** The place of its first event among all events. */
  get first() {
    return this.entries[0].sequence;
  }

  /** The encoded AppendStreamRequest. */
  frame() {
    const parts = [varint(BATCH_ID), varint(this.id)];
    for (const { bytes } of this.entries) parts.push(varint(BATCH_EVENTS), varint(bytes.length), bytes);
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    return Buffer.concat([varint(REQUEST_BATCH), varint(length), ...parts]);
  }
}

/**
 * How much one event adds to a batch.
 * @param {{bytes: Buffer}} entry
 */
export function entrySize({ bytes }) {
  return bytes.length + EVENT_OVERHEAD_BYTES;
}

/**
 * The entries, in order, as batches within both limits. An event that is too large on its own travels alone.
 * @param {Entry[]} entries
 * @param {number} eventsMax
 * @param {number} bytesMax
 * @returns {Batch[]}
 */
export function cut(entries, eventsMax, bytesMax) {
  const batches = [];
  /** @type {Entry[]} */
  let part = [];
  let size = BATCH_OVERHEAD_BYTES;
  for (const entry of entries) {
    if (part.length && (part.length >= eventsMax || size + entrySize(entry) > bytesMax)) {
      batches.push(new Batch(part));
      part = [];
      size = BATCH_OVERHEAD_BYTES;
    }
    part.push(entry);
    size += entrySize(entry);
  }
  if (part.length) batches.push(new Batch(part));
  return batches;
}

/**
 * The first message of a stream.
 * @param {string} source
 * @param {"durable" | "accepted"} durability
 */
export function openFrame(source, durability) {
  return AppendStreamRequest.serialize({ open: { source, durability: durabilityName(durability) } });
}

/**
 * @param {string} durability
 * @returns {string} its name on the wire
 */
export function durabilityName(durability) {
  if (durability !== "durable" && durability !== "accepted") {
    throw new TypeError(`durability must be "durable" or "accepted", not ${durability}`);
  }
  return `DURABILITY_${durability.toUpperCase()}`;
}

/** @type {Buffer[]} */
const SMALL = Array.from({ length: 128 }, (_, number) => Buffer.from([number]));

/**
 * @param {number} number at least 0, at most 2^53 - 1
 * @returns {Buffer} a base-128 varint
 */
function varint(number) {
  if (number < 128) return SMALL[number];
  const bytes = [];
  while (number >= 128) {
    bytes.push((number % 128) | 0x80);
    number = Math.floor(number / 128);
  }
  bytes.push(number);
  return Buffer.from(bytes);
}
