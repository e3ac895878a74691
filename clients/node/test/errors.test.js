import assert from "node:assert/strict";
import test from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import * as errors from "../src/errors.js";
import { Status } from "../src/contract.js";
import { ending, refusal } from "./fake_daemon.js";

/** As it is when it has come over the wire. */
function told(...given) {
  return errors.fromStatus(Status.deserialize(Status.serialize(refusal(...given))));
}

test("a status says its reason, its hint, and when to try again", () => {
  const error = told(status.UNAVAILABLE, "DISK_FULL", { retryAfterMs: 5_250, hint: "make room" });
  assert.ok(error instanceof errors.UnavailableError);
  assert.deepEqual([error.code, error.reason, error.hint], ["UNAVAILABLE", "DISK_FULL", "make room"]);
  assert.deepEqual([error.retryable, error.retryAfterMs], [true, 5_250]);
  assert.match(error.message, /DISK_FULL: .*\(make room\)/);
});

test("RESOURCE_EXHAUSTED is worth another try only if the daemon says when", () => {
  assert.equal(told(status.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE").retryable, false);
  assert.equal(told(status.RESOURCE_EXHAUSTED, "SUBSCRIBERS_FULL", { retryAfterMs: 1_000 }).retryable, true);
});

test("details that are garbled leave the code", () => {
  const details = ["ErrorInfo", "RetryInfo"].map((name) => {
    return { type_url: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from([0xff]) };
  });
  const error = errors.fromStatus({ code: status.RESOURCE_EXHAUSTED, message: "full", details });
  assert.deepEqual([error.code, error.message, error.reason], ["RESOURCE_EXHAUSTED", "full", ""]);
  assert.deepEqual([error.retryable, error.retryAfterMs], [false, null]);
});

test("each code has its class", () => {
  const kinds = {
    INVALID_ARGUMENT: errors.InvalidError, FAILED_PRECONDITION: errors.PreconditionError,
    NOT_FOUND: errors.NotFoundError, OUT_OF_RANGE: errors.OutOfRangeError, INTERNAL: errors.InternalError,
    RESOURCE_EXHAUSTED: errors.ExhaustedError, DEADLINE_EXCEEDED: errors.DeadlineExceededError,
  };
  for (const [code, kind] of Object.entries(kinds)) {
    const error = told(status[code], "ANY");
    assert.ok(error instanceof kind && error.name === kind.name, code);
    assert.equal(error.retryable, code === "DEADLINE_EXCEEDED");
  }
});

test("the error of a call carries the daemon's details in its trailers", () => {
  const error = errors.fromServiceError(ending(status.FAILED_PRECONDITION, "ATOMIC_SPANS_MONTHS"));
  assert.ok(error instanceof errors.PreconditionError);
  assert.deepEqual([error.reason, error.retryable, error.retryAfterMs], ["ATOMIC_SPANS_MONTHS", false, null]);
});

test("without details UNAVAILABLE means that nobody answered", () => {
  const nobody = { code: status.UNAVAILABLE, details: "no connection", metadata: new Metadata() };
  const error = errors.fromServiceError(nobody);
  assert.ok(error instanceof errors.UnreachableError);
  assert.deepEqual([error.code, error.retryable], ["UNAVAILABLE", true]);
});

test("a pushback without details is a delay; details that are none are passed over", () => {
  const metadata = new Metadata();
  metadata.set("grpc-retry-pushback-ms", "250");
  metadata.set("grpc-status-details-bin", Buffer.from([0xff, 0xff]));
  const error = errors.fromServiceError({ code: status.UNAVAILABLE, details: "later", metadata });
  assert.ok(error instanceof errors.UnavailableError);
  assert.equal(error.retryAfterMs, 250);
});

test("a stream is tried again unless it would end so again", () => {
  assert.ok(errors.breaksForGood(told(status.INVALID_ARGUMENT, "SOURCE_INVALID")));
  assert.ok(!errors.breaksForGood(told(status.INTERNAL, "INTERNAL")));
  assert.ok(!errors.breaksForGood(told(status.UNAVAILABLE, "DRAINING", { retryAfterMs: 1_000 })));
  assert.ok(!errors.breaksForGood(told(status.RESOURCE_EXHAUSTED, "SUBSCRIBERS_FULL", { retryAfterMs: 1_000 })));
});
