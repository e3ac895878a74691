import assert from "node:assert/strict";
import test from "node:test";
import { Backoff, Patience } from "../src/backoff.js";
import { Signal } from "../src/signal.js";

test("delays double up to the largest and begin anew after a success", () => {
  const backoff = new Backoff({ firstMs: 100, maxMs: 1_000, random: () => 1 });
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => backoff.nextDelayMs()), [100, 200, 400, 800, 1_000, 1_000]);
  backoff.reset();
  assert.equal(backoff.nextDelayMs(), 100);
});

test("jitter takes up to half, and never what the daemon asked for", () => {
  const backoff = new Backoff({ firstMs: 100, random: () => 0 });
  assert.equal(backoff.nextDelayMs(), 50);
  assert.equal(backoff.nextDelayMs(5_000), 5_000);
  assert.equal(backoff.nextDelayMs(1e15), 3_600_000, "no answer stops a sender for good");
});

test("patience ends when nothing moves while something is waited for", () => {
  const patience = new Patience(1_000);
  assert.equal(patience.leftMs(5), Infinity);
  patience.watch(10, true);
  patience.watch(500, true);
  assert.equal(patience.leftMs(510), 500);
  patience.progress(600);
  assert.equal(patience.leftMs(1_600), 0);
  patience.watch(1_700, false);
  assert.equal(patience.leftMs(9_999), Infinity);
});

test("whoever waits for longer than a timer can is not woken at once", async () => {
  const signal = new Signal();
  let woken = false;
  const waiting = signal.wait(2 ** 31).then(() => (woken = true));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(woken, false);
  signal.notify();
  await waiting;
});
