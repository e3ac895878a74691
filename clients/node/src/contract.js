/**
 * The wire contract, loaded from protos/: how messages become bytes and back. Nothing else here knows protobuf.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as loader from "@grpc/proto-loader";

/**
 * @typedef {object} Message A message type.
 * @property {(value: any) => Buffer} serialize
 * @property {(bytes: Buffer) => any} deserialize
 */

/**
 * @typedef {object} Method What grpc-js wants to know of a method.
 * @property {string} path
 * @property {(value: any) => Buffer} requestSerialize
 * @property {(bytes: Buffer) => any} responseDeserialize
 */

// Installed, the package holds a copy; in the repository they are where every client finds them.
const directory = ["../protos", "../../../protos"]
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find((path) => existsSync(`${path}/trackd/v1/ingest.proto`));
if (directory === undefined) {
  throw new Error("trackd-client is incomplete: its protos/ directory is missing; install the package again");
}

const definitions = loader.loadSync(
  ["trackd/v1/ingest.proto", "trackd/v1/query.proto", "trackd/v1/subscribe.proto"],
  { includeDirs: [directory], longs: String, enums: String, defaults: true, oneofs: true },
);

/**
 * The parts of google/rpc/error_details.proto that say what to do about an error.
 * https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
 */
const details = loader.fromJSON(
  /** @type {any} */ ({
    nested: {
      ErrorInfo: {
        fields: {
          reason: { type: "string", id: 1 },
          domain: { type: "string", id: 2 },
          metadata: { keyType: "string", type: "string", id: 3 },
        },
      },
      RetryInfo: { fields: { retryDelay: { type: "Delay", id: 1 } } },
      Delay: { fields: { seconds: { type: "int64", id: 1 }, nanos: { type: "int32", id: 2 } } },
    },
  }),
  { longs: Number, defaults: true, objects: true },
);

/**
 * @param {any} found
 * @returns {Message}
 */
function message(found) {
  return found;
}

/**
 * @param {string} service
 * @param {string} name
 * @returns {Method}
 */
function method(service, name) {
  return /** @type {any} */ (definitions[`trackd.v1.${service}`])[name];
}

export const Event = message(definitions["trackd.v1.Event"]);
export const AppendStreamRequest = message(definitions["trackd.v1.AppendStreamRequest"]);
export const Status = message(definitions["google.rpc.Status"]);
export const ErrorInfo = message(details.ErrorInfo);
export const RetryInfo = message(details.RetryInfo);

export const append = method("IngestService", "Append");
export const appendStream = method("IngestService", "AppendStream");
export const listEvents = method("QueryService", "ListEvents");
export const countEvents = method("QueryService", "CountEvents");
export const aggregate = method("QueryService", "Aggregate");
export const subscribe = method("SubscribeService", "Subscribe");
