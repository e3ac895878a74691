import assert from "node:assert/strict";
import test from "node:test";
import { AppendStreamRequest } from "../src/contract.js";
import { encode, newEvent } from "../src/events.js";
import { Batch, cut, entrySize } from "../src/framing.js";
import { ProtocolViolation, Window, limitsTold } from "../src/window.js";

const LIMITS = { batchEvents: 100, batchBytes: 10_000, inFlightBatches: 3, inFlightBytes: 1e9 };

function entries(first, count, padding = 0) {
  return Array.from({ length: count }, (_, n) => {
    return { sequence: first + n, bytes: encode(newEvent("t", { metadata: { pad: "x".repeat(padding) } })) };
  });
}

function batch(first, count = 1, padding = 0) {
  return new Batch(entries(first, count, padding));
}

function opened(limits = {}) {
  const window = new Window(10, 1e9);
  window.opened({ ...LIMITS, ...limits });
  return window;
}

test("a frame is what the contract's own encoder reads, and never larger than its size says", () => {
  for (const count of [1, 3, 500]) {
    for (const padding of [0, 100, 20_000]) {
      const made = batch(0, count, padding);
      made.id = 300;
      const frame = made.frame();
      const request = AppendStreamRequest.deserialize(frame);
      assert.equal(request.message, "batch");
      assert.equal(request.batch.batchId, "300");
      assert.equal(request.batch.events.length, count);
      assert.equal(request.batch.events[count - 1].metadata.length, 10 + padding);
      assert.ok(frame.length <= made.size);
    }
  }
});

test("cutting keeps order and both limits; what is too large travels alone", () => {
  const all = [...entries(0, 10), ...entries(10, 1, 5_000), ...entries(11, 4)];
  const size = entrySize(all[0]);
  const batches = cut(all, 4, 32 + 3 * size);
  assert.deepEqual(batches.map((one) => one.entries.length), [3, 3, 3, 1, 1, 3, 1]);
  assert.deepEqual(batches.flatMap((one) => one.entries.map((entry) => entry.sequence)), [...Array(15).keys()]);
});

test("nothing is taken before the handshake, and no more than it allows", () => {
  const window = new Window(10, 1e9);
  for (const first of [0, 1, 2, 3]) window.add(batch(first));
  assert.equal(window.take(), null);
  window.opened(LIMITS);
  assert.deepEqual([window.take(), window.take(), window.take()].map((one) => one.first), [0, 1, 2]);
  assert.equal(window.take(), null);
  window.settle();
  assert.equal(window.take().first, 3);
});

test("bytes in flight are bounded, but for a batch that is alone", () => {
  const window = opened({ inFlightBytes: 10 });
  window.add(batch(0));
  window.add(batch(1));
  assert.equal(window.take().first, 0);
  assert.equal(window.take(), null);
  window.settle();
  assert.equal(window.take().first, 1);
});

test("there is room up to the batches or the bytes, and always for one", () => {
  const few = new Window(2, 1e9);
  few.add(batch(0));
  assert.ok(few.hasRoom);
  few.add(batch(1));
  assert.ok(!few.hasRoom);
  const small = new Window(10, 1);
  assert.ok(small.hasRoom);
  small.add(batch(0));
  assert.ok(!small.hasRoom);
});

test("a broken stream puts everything back in order", () => {
  const window = opened();
  for (const first of [0, 1, 2, 3]) window.add(batch(first));
  const [zero] = [window.take(), window.take(), window.take()];
  window.putBack(new Batch(zero.entries));
  window.lost();
  assert.ok(!window.awaitingAnswer);
  window.opened(LIMITS);
  assert.deepEqual([window.take(), window.take(), window.take()].map((one) => one.first), [0, 1, 2]);
});

test("what was refused for now waits in its old place", () => {
  const window = opened({ inFlightBatches: 2 });
  for (const first of [0, 1, 2]) window.add(batch(first));
  const refused = window.take();
  window.take();
  window.putBack(refused);
  assert.equal(window.take().first, 0);
});

test("answers come in order, and 0 is for a batch whose id could not be read", () => {
  const window = opened();
  assert.throws(() => window.expect(1), ProtocolViolation);
  window.add(batch(0));
  window.add(batch(1));
  const [first, second] = [window.take(), window.take()];
  assert.notEqual(first.id, second.id);
  assert.throws(() => window.expect(second.id), ProtocolViolation);
  assert.equal(window.expect(first.id), first);
  assert.equal(window.expect(0), first);
});

test("batches for another daemon are cut to the limits of this one", () => {
  const window = new Window(10, 1e9);
  window.add(batch(0, 10));
  window.opened({ ...LIMITS, batchEvents: 4, inFlightBatches: 10 });
  window.add(batch(10, 5));
  const sizes = [];
  for (let one; (one = window.take()); ) sizes.push([one.first, one.entries.length]);
  assert.deepEqual(sizes, [[0, 4], [4, 4], [8, 2], [10, 4], [14, 1]]);
});

test("no frame is larger than the daemon takes, whatever the sizes", () => {
  for (let padding = 0; padding < 200; padding += 1) {
    const window = opened({ batchBytes: 1_000 });
    window.add(batch(0, 5, padding));
    for (let one; (one = window.take()); window.settle()) assert.ok(one.frame().length <= 1_000);
  }
});

test("limits that a daemon leaves open are none", () => {
  const told = { maxBatchEvents: "0", maxBatchBytes: "5", maxInFlightBatches: "0", maxInFlightBytes: "7" };
  const limits = { batchEvents: Infinity, batchBytes: 5, inFlightBatches: Infinity, inFlightBytes: 7 };
  assert.deepEqual(limitsTold(told), limits);
});
