/**
 * A stand-in for the daemon that answers as a test tells it to.
 */
import { Server, ServerCredentials, Metadata, status } from "@grpc/grpc-js";
import { append, appendStream, subscribe, ErrorInfo, RetryInfo, Status } from "../src/contract.js";

export const LIMITS = { maxBatchBytes: 4_194_304, maxBatchEvents: 10_000, maxInFlightBatches: 64 };

/** The handshake's answer. */
export function opened(limits = {}) {
  return { opened: { limits: { ...LIMITS, ...limits }, head: 0, durability: "DURABILITY_DURABLE" } };
}

/** All of a batch is stored. */
export function stored(batch) {
  return { answer: { batchId: batch.batchId, result: { accepted: batch.events.length } } };
}

/** A google.rpc.Status as the daemon makes it. */
export function refusal(code, reason, { retryAfterMs, hint = "" } = {}) {
  const details = [any("ErrorInfo", ErrorInfo.serialize({ reason, domain: "trackd", metadata: { hint } }))];
  if (retryAfterMs !== undefined) {
    const retryDelay = { seconds: Math.floor(retryAfterMs / 1_000), nanos: (retryAfterMs % 1_000) * 1e6 };
    details.push(any("RetryInfo", RetryInfo.serialize({ retryDelay })));
  }
  return { code, message: `refused: ${reason}`, details };
}

function any(type, value) {
  return { type_url: `type.googleapis.com/google.rpc.${type}`, value };
}

/** The same as the error that ends a call. */
export function ending(code, reason, options) {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Status.serialize(refusal(code, reason, options)));
  return { code, details: "refused", metadata };
}

/**
 * Serves on a free port until the test is over. `onStream(call, number)` gets each AppendStream with its number from 0,
 * `onAppend` and `onSubscribe` the other calls.
 */
export async function serve(t, { onStream, onAppend, onSubscribe }) {
  const server = new Server();
  let streams = 0;
  const handlers = {
    Append: (call, callback) => onAppend(call, callback),
    AppendStream: (call) => {
      call.on("error", () => {});
      onStream(call, streams++);
    },
    Subscribe: (call) => onSubscribe(call),
  };
  server.addService({ Append: append, AppendStream: appendStream, Subscribe: subscribe }, handlers);
  t.after(() => server.forceShutdown());
  const port = await new Promise((resolve, reject) => {
    const done = (error, bound) => (error ? reject(error) : resolve(bound));
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), done);
  });
  return `127.0.0.1:${port}`;
}

/** A handler of streams that opens each and gives every batch to `onBatch(call, batch, streamNumber)`. */
export function answering(onBatch, limits = {}) {
  return (call, number) => {
    call.on("data", (request) => {
      if (request.open) call.write(opened(limits));
      else onBatch(call, request.batch, number);
    });
    call.on("end", () => call.end());
  };
}

export { status };
