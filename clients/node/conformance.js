/**
 * Drives the Node.js client for the conformance suite: one JSON command a line on standard input, one answer a line.
 *
 *     node clients/node/conformance.js HOST:PORT
 *
 * The commands and their answers are described in clients/conformance/README.md.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Appender, Client, TrackdError } from "./src/index.js";

/** `pause_us` of send_made is the sleep after so many events. */
const PAUSE_EVENTS = 100;

const [target] = process.argv.slice(2);
if (!target) {
  console.error("usage: node clients/node/conformance.js HOST:PORT");
  process.exit(2);
}

const { TRACKD_CA: ca, TRACKD_TOKEN: token } = process.env;
const how = { tls: ca ? { ca: readFileSync(ca) } : undefined, token };
const client = new Client(target, how);
let appender = null;
let rejections = [];

const commands = {
  async append({ source, events, durability, atomic }) {
    const result = await client.append(events.map(event), { source, durability, atomic });
    const { accepted, duplicate, rejected, queued } = result;
    const items = result.items.map(({ index, outcome, reason, field, retryable }) => {
      return { index, outcome, reason, field, retryable };
    });
    return { result: { accepted, duplicate, rejected, queued, items } };
  },
  open({ source, batch_events, window_batches }) {
    rejections = [];
    appender = new Appender(target, {
      ...how,
      source,
      batchEvents: batch_events,
      windowBatches: window_batches,
      onResult: (result) => {
        for (const { sequence, reason } of result.rejections) rejections.push({ sequence, reason });
      },
    });
    return { opened: true };
  },
  async send({ events }) {
    await appender.send(events.map(event));
    return { sent: events.length };
  },
  async send_made(command) {
    await appender.send(made(command));
    return { sent: command.to - command.from };
  },
  async flush() {
    return answered(await appender.flush());
  },
  async close() {
    return answered(await appender.close());
  },
  stats() {
    return { rss_bytes: process.memoryUsage.rss(), unacknowledged: appender?.unacknowledged ?? 0 };
  },
};

function answered({ accepted, duplicate, rejected }) {
  rejections.sort((one, other) => one.sequence - other.sequence);
  return { totals: { accepted, duplicate, rejected }, rejections };
}

/** An event of the command; what it does not say is not set, so that the client has to fill it in. */
function event({ id, user_id, timestamp_ms, session_id, client_ip, change, ...same }) {
  return defined({
    ...same,
    id: id === undefined ? undefined : Buffer.from(id, "hex"),
    userId: user_id,
    timestampMs: timestamp_ms,
    sessionId: session_id,
    clientIp: client_ip,
    change: change && changed(change),
  });
}

function changed({ table_name, row_id, old_values, new_values, rows_affected, ...same }) {
  return defined({
    ...same,
    tableName: table_name,
    rowId: row_id,
    oldValues: old_values,
    newValues: new_values,
    rowsAffected: rows_affected,
  });
}

function defined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

/** The events numbered from `from` up to, not including, `to`. */
async function* made({ from, to, type, base_ms, padding = 0, pause_us = 0 }) {
  const pad = "x".repeat(padding);
  for (let n = from; n < to; n += 1) {
    const id = Buffer.alloc(16);
    id.writeUIntBE(base_ms + n, 0, 6);
    id[6] = 0x70;
    id[8] = 0x80;
    id.writeUInt32BE(n, 12);
    yield {
      id, type, userId: `user-${n % 7}`, timestampMs: base_ms + n, metadata: padding ? { n, pad } : { n },
    };
    if (pause_us && (n - from) % PAUSE_EVENTS === PAUSE_EVENTS - 1) await sleep(pause_us / 1_000);
  }
}

/**
 * A command with its 64-bit integers as they were written: JSON.parse would make doubles of them. Within a text of JSON
 * the name would end with \" and not with ".
 */
function parse(line) {
  return JSON.parse(line.replace(/"(timestamp_ms|rows_affected)": ?(-?\d+)/g, '"$1":"$2"'));
}

async function answer(command) {
  try {
    return await commands[command.cmd](command);
  } catch (error) {
    if (!(error instanceof TrackdError)) throw error;
    const { code, reason, retryable, retryAfterMs } = error;
    return { error: { code, reason, retryable, retry_after_ms: retryAfterMs } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(parse(line)))}\n`);
}
await appender?.abort();
client.close();
