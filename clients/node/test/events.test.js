import assert from "node:assert/strict";
import test from "node:test";
import { Event } from "../src/contract.js";
import { encode, int64, newEvent, newId } from "../src/events.js";

const TIME_MS = 1_764_000_000_000;

test("an id is a UUIDv7 of its time", () => {
  const id = newId(TIME_MS);
  assert.equal(id.length, 16);
  assert.equal(id.readUIntBE(0, 6), TIME_MS);
  assert.equal(id[6] >> 4, 7);
  assert.equal(id[8] >> 6, 2);
});

test("ids differ, also beyond what is drawn at once, and do not share memory", () => {
  const ids = Array.from({ length: 1_000 }, () => newId(TIME_MS));
  assert.equal(new Set(ids.map((id) => id.toString("hex"))).size, 1_000);
  const [first] = ids;
  const before = first.toString("hex");
  ids.slice(1).forEach((id) => id.fill(0));
  assert.equal(first.toString("hex"), before);
});

test("an id of a time that no UUIDv7 holds is one of the nearest", () => {
  assert.equal(newId(-1).readUIntBE(0, 6), 0);
  assert.equal(newId(2n ** 63n - 1n).readUIntBE(0, 6), 2 ** 48 - 1);
});

test("a new event has an id of its time, and the time of now if there is neither", () => {
  assert.equal(Buffer.from(newEvent("t", { timestampMs: TIME_MS }).id).readUIntBE(0, 6), TIME_MS);
  const before = Date.now();
  const { id, timestampMs } = newEvent("t");
  assert.ok(timestampMs >= before && timestampMs <= Date.now());
  assert.equal(Buffer.from(id).readUIntBE(0, 6), timestampMs);
  assert.equal(newEvent("t", { id: newId(TIME_MS) }).timestampMs, undefined);
});

test("every field goes over the wire", () => {
  const event = Event.deserialize(
    encode({
      id: newId(TIME_MS), type: "t", userId: "u", timestampMs: TIME_MS, sessionId: "s", clientIp: "::1",
      description: "d", tags: new Set(["a", "b"]), metadata: { n: 1 },
      change: {
        tableName: "t", rowId: "r", action: "delete", oldValues: '{"a": 1}', newValues: { b: 2 }, status: "failed",
        rowsAffected: 2n ** 63n - 1n,
      },
    }),
  );
  assert.equal(event.timestampMs, String(TIME_MS));
  assert.deepEqual(event.tags, ["a", "b"]);
  assert.deepEqual([event.userId, event.sessionId, event.clientIp, event.description], ["u", "s", "::1", "d"]);
  assert.equal(event.metadata, '{"n":1}');
  const { action, status, oldValues, newValues, rowsAffected } = event.change;
  assert.deepEqual([action, status], ["CHANGE_ACTION_DELETE", "CHANGE_STATUS_FAILED"]);
  assert.deepEqual([oldValues, newValues, rowsAffected], ['{"a": 1}', '{"b":2}', "9223372036854775807"]);
});

test("what is not given is not set", () => {
  const event = Event.deserialize(encode({ type: "t" }));
  assert.equal(event.timestampMs, undefined);
  assert.equal(event.id.length, 0);
  assert.equal(event.change, null);
});

test("a field that does not exist is refused instead of lost", () => {
  assert.throws(() => encode({ type: "t", userID: "u" }), /no field userID/);
  assert.throws(() => encode({ type: "t", change: { table: "t" } }), /a change has no field table/);
  assert.throws(() => encode({ type: "t", change: { tableName: "t", action: "drop" } }), /action must be one of/);
});

test("whole numbers of 64 bits, in any form, without loss", () => {
  assert.equal(int64(-(2n ** 63n), "f"), "-9223372036854775808");
  assert.equal(int64("9223372036854775807", "f"), "9223372036854775807");
  assert.equal(int64(Number.MAX_SAFE_INTEGER, "f"), "9007199254740991");
  assert.throws(() => int64(2n ** 63n, "f"), RangeError);
  assert.throws(() => int64(2 ** 53, "f"), /give a bigint/);
  assert.throws(() => int64(1.5, "f"), RangeError);
  assert.throws(() => int64("now", "f"), TypeError);
});
