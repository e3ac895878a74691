import assert from "node:assert/strict";
import test from "node:test";
import {
  Appender, Backoff, Client, DeadlineExceededError, OutOfRangeError, PreconditionError, UnreachableError, newEvent,
} from "../src/index.js";
import { ending, serve, status } from "./fake_daemon.js";

async function connected(t, handlers, options) {
  const client = new Client(await serve(t, handlers), options);
  t.after(() => client.close());
  return client;
}

test("an answer says what became of each event", async (t) => {
  const onAppend = ({ request }, callback) => {
    assert.deepEqual([request.source, request.durability, request.atomic], ["tests", "DURABILITY_DURABLE", true]);
    const items = [{ index: 1, outcome: "APPEND_OUTCOME_DUPLICATE", existingPosition: "9007199254740993" }];
    callback(null, { result: { accepted: 1, duplicate: 1, firstPosition: 7, lastPosition: 7, items } });
  };
  const client = await connected(t, { onAppend });
  const result = await client.append([newEvent("t"), newEvent("t")], { source: "tests", atomic: true });
  assert.deepEqual([result.accepted, result.duplicate, result.rejected], [1, 1, 0]);
  assert.deepEqual([result.firstPosition, result.lastPosition], [7n, 7n]);
  assert.equal(result.items[0].outcome, "duplicate");
  assert.equal(result.items[0].existingPosition, 9007199254740993n);
});

test("a refused call is a typed error", async (t) => {
  const error = ending(status.FAILED_PRECONDITION, "ATOMIC_SPANS_MONTHS", { hint: "split" });
  const client = await connected(t, { onAppend: (_call, callback) => callback(error) });
  await assert.rejects(client.append([], { source: "tests" }), (error) => {
    assert.ok(error instanceof PreconditionError);
    return error.reason === "ATOMIC_SPANS_MONTHS" && error.hint === "split" && !error.retryable;
  });
});

test("a call ends in time, and nobody there is said so", async (t) => {
  const client = await connected(t, { onAppend: () => {} }, { timeoutMs: 50 });
  await assert.rejects(client.append([], { source: "tests" }), DeadlineExceededError);
  const nobody = new Client("127.0.0.1:1");
  t.after(() => nobody.close());
  await assert.rejects(nobody.append([], { source: "tests" }), UnreachableError);
});

test("every call carries the token of its moment, and none goes beyond loopback in the clear", async (t) => {
  const carried = [];
  const onAppend = ({ metadata }, callback) => {
    carried.push(...metadata.get("authorization"));
    callback(null, { result: {} });
  };
  let number = 0;
  const client = await connected(t, { onAppend }, { token: () => `trackd_${++number}` });
  for (let call = 0; call < 2; call += 1) await client.append([], { source: "tests" });
  assert.deepEqual(carried, ["Bearer trackd_1", "Bearer trackd_2"]);
  const token = "secret";
  for (const make of [() => new Client("far:1", { token }), () => new Appender("far:1", { source: "tests", token })]) {
    assert.throws(make, (error) => /in the clear/.test(error.message) && !/secret/.test(error.message));
  }
  for (const how of [{ token, tls: true }, { token, tls: false }, {}]) new Client("far:1", how).close();
});

test("a misspelt durability is no call", async (t) => {
  const client = await connected(t, {});
  await assert.rejects(client.append([], { source: "tests", durability: "sure" }), TypeError);
});

/** A frame with one event. */
function frame(position) {
  const event = { id: Buffer.alloc(16, 1), type: "t", timestampMs: 5, metadata: '{"a":1}' };
  return { events: { events: [{ position, event, source: "s", receivedMs: 6 }], head: 9 } };
}

const QUICK = { backoff: new Backoff({ firstMs: 1, maxMs: 2 }) };

test("a subscription resumes behind what it handed out", async (t) => {
  const asked = [];
  const onSubscribe = (call) => {
    const from = Number(call.request.afterPosition ?? -1);
    asked.push(from);
    call.write({ confirmed: { afterPosition: from, head: 9 } });
    if (asked.length === 1) {
      call.write(frame(3));
      call.write({ checkpoint: { position: 4 } });
    } else if (asked.length === 2) {
      call.write(frame(5));
      call.write({ gap: { month: "2025-11", reason: "GAP_REASON_MONTH_DAMAGED" } });
    } else {
      call.write(frame(8));
      return call.end();
    }
    return call.emit("error", ending(status.UNAVAILABLE, "DRAINING", { retryAfterMs: 1 }));
  };
  const client = await connected(t, { onSubscribe });
  const kinds = [];
  const interruptions = [];
  const onFrame = (kind) => kinds.push(kind);
  const onInterruption = (error) => interruptions.push(error.reason);
  const following = client.subscribe({ types: ["t"] }, { ...QUICK, afterPosition: 0, onFrame, onInterruption });
  const positions = [];
  for await (const stored of following) {
    assert.deepEqual([stored.source, stored.event.type, stored.event.timestampMs], ["s", "t", 5]);
    positions.push(stored.position);
  }
  assert.deepEqual(positions, [3n, 5n, 8n]);
  assert.deepEqual(asked, [0, 4, 5]);
  assert.deepEqual(kinds, ["confirmed", "checkpoint", "confirmed", "gap", "confirmed"]);
  assert.deepEqual(interruptions, ["DRAINING", "DRAINING"]);
  assert.deepEqual(following.gaps, [{ month: "2025-11", reason: "damaged" }]);
  assert.equal(following.head, 9n);
});

test("a subscription ends when it is left, and when it is closed from elsewhere", async (t) => {
  const onSubscribe = (call) => {
    call.on("error", () => {});
    call.write({ confirmed: { afterPosition: 0, head: 9 } });
    call.write(frame(1));
  };
  const client = await connected(t, { onSubscribe });
  for await (const stored of client.subscribe()) {
    assert.equal(stored.position, 1n);
    break;
  }
  const following = client.subscribe();
  for await (const stored of following) {
    assert.equal(stored.position, 1n);
    setImmediate(() => following.close());
  }
});

test("a subscription that is refused for good throws, one that finds nobody gives up", async (t) => {
  const client = await connected(t, {
    onSubscribe: (call) => call.emit("error", ending(status.OUT_OF_RANGE, "POSITION_AHEAD")),
  });
  const collect = async (following) => {
    for await (const stored of following) assert.fail(stored);
  };
  await assert.rejects(collect(client.subscribe()), OutOfRangeError);
  const nobody = new Client("127.0.0.1:1");
  t.after(() => nobody.close());
  await assert.rejects(collect(nobody.subscribe({}, { ...QUICK, giveUpAfterMs: 30 })), UnreachableError);
});

test("events that come out of order break the contract; what a callback throws is thrown", async (t) => {
  const onSubscribe = (call) => {
    call.on("error", () => {});
    call.write({ confirmed: { afterPosition: 0, head: 9 } });
    call.write(frame(5));
    call.write(frame(5));
  };
  const client = await connected(t, { onSubscribe });
  const collect = async (options) => {
    for await (const stored of client.subscribe({}, { ...QUICK, ...options })) assert.equal(stored.position, 5n);
  };
  await assert.rejects(collect({}), { reason: "PROTOCOL_VIOLATION" });
  const onFrame = () => {
    throw new Error("of mine");
  };
  await assert.rejects(collect({ onFrame }), /of mine/);
  assert.throws(() => client.subscribe({}, { afterPosition: 1, receivedFromMs: 2 }), TypeError);
});
