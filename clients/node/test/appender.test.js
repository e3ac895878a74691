import assert from "node:assert/strict";
import test from "node:test";
import { Appender, Backoff, GaveUpError, InvalidError, newEvent } from "../src/index.js";
import { answering, ending, opened, refusal, serve, status, stored } from "./fake_daemon.js";

const QUICK = { source: "tests", batchEvents: 10, backoff: new Backoff({ firstMs: 1, maxMs: 2 }) };

function* events(count, from = 0) {
  for (let n = from; n < from + count; n += 1) yield newEvent("t", { userId: String(n) });
}

/** What a daemon that stores each id once has in the end: users in the order of their storing. */
class Store {
  ids = new Set();
  users = [];

  take(batch) {
    let accepted = 0;
    for (const { id, userId } of batch.events) {
      if (this.ids.has(id.toString("hex"))) continue;
      this.ids.add(id.toString("hex"));
      this.users.push(Number(userId));
      accepted += 1;
    }
    return { answer: { batchId: batch.batchId, result: { accepted, duplicate: batch.events.length - accepted } } };
  }
}

test("batches are answered in order and counted", async (t) => {
  const store = new Store();
  const target = await serve(t, { onStream: answering((call, batch) => call.write(store.take(batch))) });
  const appender = new Appender(target, QUICK);
  await appender.send(events(95));
  assert.equal(appender.unacknowledged >= 5, true);
  assert.deepEqual(await appender.flush(), { accepted: 95, duplicate: 0, rejected: 0, queued: 0 });
  assert.equal(appender.unacknowledged, 0);
  assert.deepEqual(await appender.close(), appender.totals);
  assert.deepEqual(store.users, [...Array(95).keys()]);
  await assert.rejects(appender.send(events(1)), /closed/);
});

test("one event, an array and an asynchronous generator are taken, one caller after the other", async (t) => {
  const store = new Store();
  const target = await serve(t, { onStream: answering((call, batch) => call.write(store.take(batch))) });
  const appender = new Appender(target, QUICK);
  const slowly = async function* () {
    for (const event of events(25, 1)) {
      await new Promise(setImmediate);
      yield event;
    }
  };
  const given = [newEvent("t", { userId: "0" }), slowly(), [...events(4, 26)]];
  await Promise.all([...given.map((some) => appender.send(some)), appender.flush()]);
  await appender.close();
  assert.deepEqual(store.users, [...Array(30).keys()]);
});

test("a batch that is not full goes by itself after a while, in its order", async (t) => {
  const store = new Store();
  const target = await serve(t, { onStream: answering((call, batch) => call.write(store.take(batch))) });
  const appender = new Appender(target, { ...QUICK, lingerMs: 20 });
  for (const round of [0, 1]) {
    await appender.send(events(13, round * 13));
    while (appender.unacknowledged) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.deepEqual(store.users, [...Array(26).keys()]);
  await appender.close();
  const waiting = new Appender(target, { ...QUICK, lingerMs: Infinity });
  await waiting.send(events(3, 26));
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(waiting.unacknowledged, 3);
  await waiting.close();
});

test("a batch that lingers waits for room like any other", async (t) => {
  const store = new Store();
  let holding = true;
  const held = [];
  const onBatch = (call, batch) => (holding ? held.push([call, batch]) : call.write(store.take(batch)));
  const target = await serve(t, { onStream: answering(onBatch) });
  const appender = new Appender(target, { ...QUICK, lingerMs: 1, windowBatches: 1 });
  await appender.send(events(13));
  while (!held.length) await new Promise(setImmediate);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(held.length, 1);
  holding = false;
  for (const [call, batch] of held) call.write(store.take(batch));
  while (appender.unacknowledged) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(store.users, [...Array(13).keys()]);
  await appender.close();
});

const REJECTED = { outcome: "APPEND_OUTCOME_REJECTED", reason: "TAG_INVALID" };
const NONSENSE = {
  "nothing at all": {},
  "no counts": { result: {} },
  "too many": { result: { accepted: 11 } },
  "a negative count": { result: { accepted: -1, duplicate: 11 } },
  "a rejection without a name": { result: { accepted: 9, rejected: 1 } },
  "an event that is not there": { result: { accepted: 9, rejected: 1, items: [{ ...REJECTED, index: 10 }] } },
  "one event twice": { result: { accepted: 8, rejected: 2, items: [REJECTED, REJECTED] } },
};
for (const [what, nonsense] of Object.entries(NONSENSE)) {
  test(`an answer that makes no sense counts for nothing: ${what}`, async (t) => {
    const store = new Store();
    const answer = ({ batchId }) => ({ answer: { batchId, ...nonsense } });
    const onBatch = (call, batch, number) => call.write(number === 0 ? answer(batch) : store.take(batch));
    const target = await serve(t, { onStream: answering(onBatch) });
    const results = [];
    const appender = new Appender(target, { ...QUICK, onResult: (result) => results.push(result) });
    await appender.send(events(10));
    assert.deepEqual(await appender.close(), { accepted: 10, duplicate: 0, rejected: 0, queued: 0 });
    assert.deepEqual(results.map(({ accepted, rejections }) => [accepted, rejections.length]), [[10, 0]]);
  });
}

test("an event without an id gets one of its time, before it is sent", async (t) => {
  const seen = [];
  const onBatch = (call, batch) => {
    seen.push(...batch.events);
    call.write(stored(batch));
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch) }), QUICK);
  await appender.send({ type: "t", timestampMs: 1_764_000_000_000 });
  await appender.close();
  assert.equal(seen[0].id.readUIntBE(0, 6), 1_764_000_000_000);
});

test("what a broken stream did not answer is sent again with the same ids", async (t) => {
  const store = new Store();
  const seen = [];
  const onBatch = (call, batch, number) => {
    seen.push(`${number}:${batch.events[0].userId}`);
    const answer = store.take(batch);
    if (number > 0 || seen.length < 3) call.write(answer);
    else if (seen.length === 3) call.emit("error", ending(status.UNAVAILABLE, "DRAINING", { retryAfterMs: 1 }));
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch) }), { ...QUICK, windowBatches: 3 });
  await appender.send(events(60));
  const totals = await appender.close();
  assert.equal(totals.accepted + totals.duplicate, 60);
  assert.ok(totals.duplicate >= 10);
  assert.deepEqual(store.users, [...Array(60).keys()]);
});

test("a batch that is refused for now is sent again, not before the daemon said", async (t) => {
  const times = [];
  const onBatch = (call, batch) => {
    times.push(performance.now());
    const error = refusal(status.UNAVAILABLE, "DISK_FULL", { retryAfterMs: 150 });
    call.write(times.length === 1 ? { answer: { batchId: batch.batchId, error } } : stored(batch));
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch) }), QUICK);
  await appender.send(events(3));
  assert.equal((await appender.close()).accepted, 3);
  assert.equal(times.length, 2);
  assert.ok(times[1] - times[0] >= 149, `after ${times[1] - times[0]} ms`);
});

test("events that are rejected for now are sent again by themselves", async (t) => {
  const sizes = [];
  const item = (index, retryable) => {
    return { index, outcome: "APPEND_OUTCOME_REJECTED", reason: retryable ? "LATER" : "TYPE_INVALID", retryable };
  };
  const onBatch = (call, batch) => {
    sizes.push(batch.events.length);
    const items = [item(1, false), item(2, true), item(4, true)];
    const result = { accepted: batch.events.length - 3, rejected: 3, items };
    call.write(sizes.length === 1 ? { answer: { batchId: batch.batchId, result } } : stored(batch));
  };
  const rejected = [];
  const onResult = ({ rejections }) => {
    for (const { sequence, reason, event } of rejections) rejected.push([sequence, reason, event.userId]);
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch) }), { ...QUICK, onResult });
  await appender.send(events(6));
  assert.deepEqual(await appender.close(), { accepted: 5, duplicate: 0, rejected: 1, queued: 0 });
  assert.deepEqual([sizes, rejected], [[6, 2], [[1, "TYPE_INVALID", "1"]]]);
});

test("a batch that is refused for good is rejected event by event", async (t) => {
  const error = refusal(status.INVALID_ARGUMENT, "BATCH_TOO_LARGE");
  const onBatch = (call, batch) => call.write({ answer: { batchId: batch.batchId, error } });
  const rejected = [];
  const onResult = (result) => {
    assert.equal(result.error.reason, "BATCH_TOO_LARGE");
    rejected.push(...result.rejections.map((one) => `${one.sequence} ${one.reason}`));
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch) }), { ...QUICK, onResult });
  await appender.send(events(2));
  assert.equal((await appender.close()).rejected, 2);
  assert.deepEqual(rejected, ["0 BATCH_TOO_LARGE", "1 BATCH_TOO_LARGE"]);
});

test("a defect of the daemon gets some more tries, then the batch is rejected", async (t) => {
  let tries = 0;
  const onBatch = (call, batch) => {
    tries += 1;
    call.write({ answer: { batchId: batch.batchId, error: refusal(status.INTERNAL, "INTERNAL") } });
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch) }), QUICK);
  await appender.send(events(2));
  assert.equal((await appender.close()).rejected, 2);
  assert.equal(tries, 6);
});

test("send waits while the window is full, and nothing is sent beyond it", async (t) => {
  const held = [];
  const appender = new Appender(
    await serve(t, { onStream: answering((call, batch) => held.push(() => call.write(stored(batch)))) }),
    { ...QUICK, windowBatches: 2 },
  );
  let handedOver = 0;
  const counted = function* () {
    for (const event of events(100)) {
      handedOver += 1;
      yield event;
    }
  };
  const sending = appender.send(counted());
  while (held.length < 2) await new Promise(setImmediate);
  assert.equal(handedOver, 30); // two batches on their way, and the one that waits for room
  assert.equal(appender.unacknowledged, 30);
  const letting = setInterval(() => held.shift()?.(), 1);
  t.after(() => clearInterval(letting));
  await sending;
  assert.equal((await appender.close()).accepted, 100);
});

test("it gives up when nothing is answered for so long, and says how much is open", async (t) => {
  const target = await serve(t, { onStream: answering(() => {}) });
  const appender = new Appender(target, { ...QUICK, giveUpAfterMs: 100, answerTimeoutMs: 40 });
  await appender.send(events(10));
  await assert.rejects(appender.flush(), (error) => {
    assert.ok(error instanceof GaveUpError);
    assert.deepEqual([error.unacknowledged, error.code, error.reason], [10, "DEADLINE_EXCEEDED", "NO_PROGRESS"]);
    return error.retryable;
  });
  await assert.rejects(appender.close(), GaveUpError);
});

test("a stream that is refused for good ends it at once", async (t) => {
  const onStream = (call) => call.emit("error", ending(status.INVALID_ARGUMENT, "SOURCE_INVALID"));
  const appender = new Appender(await serve(t, { onStream }), { ...QUICK, source: "no spaces" });
  await appender.send(events(1));
  await assert.rejects(appender.flush(), { code: "INVALID_ARGUMENT", reason: "SOURCE_INVALID" });
  await assert.rejects(appender.close(), GaveUpError);
});

test("a stream that does not answer is replaced", async (t) => {
  const onBatch = (call, batch, number) => number > 0 && call.write(stored(batch));
  const target = await serve(t, { onStream: answering(onBatch) });
  const appender = new Appender(target, { ...QUICK, answerTimeoutMs: 50 });
  await appender.send(events(3));
  assert.equal((await appender.close()).accepted, 3);
});

test("answers that break the contract replace the stream", async (t) => {
  const onBatch = (call, batch, number) => {
    if (number === 0) call.write({ answer: { batchId: 77, result: { accepted: 3 } } });
    else call.write(stored(batch));
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch) }), QUICK);
  await appender.send(events(3));
  assert.equal((await appender.close()).accepted, 3);
});

test("an answer before the handshake breaks the contract, too", async (t) => {
  const onStream = (call, number) => {
    if (number === 0) call.write(stored({ batchId: 1, events: [] }));
    else answering((one, batch) => one.write(stored(batch)))(call, number);
  };
  const appender = new Appender(await serve(t, { onStream }), QUICK);
  await appender.send(events(3));
  assert.equal((await appender.close()).accepted, 3);
});

test("batches are cut to the handshake's limits", async (t) => {
  const sizes = [];
  const onBatch = (call, batch) => {
    sizes.push(batch.events.length);
    call.write(stored(batch));
  };
  const appender = new Appender(await serve(t, { onStream: answering(onBatch, { maxBatchEvents: 4 }) }), QUICK);
  await appender.send(events(20));
  await appender.close();
  assert.equal(Math.max(...sizes), 4);
  assert.equal(sizes.reduce((one, other) => one + other), 20);
});

test("what onResult throws ends the Appender", async (t) => {
  const onResult = () => {
    throw new Error("of mine");
  };
  const target = await serve(t, { onStream: answering((call, batch) => call.write(stored(batch))) });
  const appender = new Appender(target, { ...QUICK, onResult });
  await appender.send(events(1));
  await assert.rejects(appender.flush(), /of mine/);
  await assert.rejects(appender.close(), /of mine/);
});

test("abort ends at once", async (t) => {
  const appender = new Appender(await serve(t, { onStream: answering(() => {}) }), QUICK);
  await appender.send(events(15));
  await appender.abort();
  assert.equal(appender.unacknowledged, 15);
  await assert.rejects(appender.flush(), GaveUpError);
});

test("nothing to send is nothing to wait for, also when nobody is there", async () => {
  const appender = new Appender("127.0.0.1:1", QUICK);
  assert.deepEqual(await appender.flush(), { accepted: 0, duplicate: 0, rejected: 0, queued: 0 });
  await appender.close();
  await appender.close();
});

test("wrong options and events are said at once", async (t) => {
  assert.throws(() => new Appender("127.0.0.1:1", {}), /source/);
  assert.throws(() => new Appender("127.0.0.1:1", { source: "s", batchEvents: 0 }), RangeError);
  assert.throws(() => new Appender("127.0.0.1:1", { source: "s", durability: "maybe" }), TypeError);
  const target = await serve(t, { onStream: answering((call, batch) => call.write(stored(batch))) });
  const appender = new Appender(target, QUICK);
  await assert.rejects(appender.send([newEvent("t"), { type: "t", nonsense: 1 }]), /no field nonsense/);
  await assert.rejects(appender.send(newEvent("t", { description: "x".repeat(8e6) })), InvalidError);
  assert.equal((await appender.close()).accepted, 1);
});

test("the handshake comes first", async (t) => {
  const kinds = [];
  const onStream = (call) => {
    call.on("data", (request) => {
      kinds.push(request.message);
      if (request.open) setTimeout(() => call.write(opened()), 20);
      else call.write(stored(request.batch));
    });
    call.on("end", () => call.end());
  };
  const appender = new Appender(await serve(t, { onStream }), QUICK);
  await appender.send(events(20));
  await appender.close();
  assert.deepEqual(kinds, ["open", "batch", "batch"]);
});
