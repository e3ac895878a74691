/**
 * How this package connects: one place for the options of its gRPC channels.
 */
import { Client as GrpcClient, InterceptingCall, credentials } from "@grpc/grpc-js";

export const DEFAULT_TARGET = "127.0.0.1:7077";

const OPTIONS = {
  // gRPC waits between attempts to connect, too. Its default of up to 120 s would outlast every backoff of ours.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  // The daemon takes a ping every 30 s; a host that vanished without a word is noticed after 60 s.
  "grpc.keepalive_time_ms": 40_000,
  "grpc.keepalive_timeout_ms": 20_000,
  // The daemon ends its pages before 3.5 MiB; events as large as its limits allow still have to come through.
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
  // A connection of its own for each Client and Appender: closing one ends it.
  "grpc.use_local_subchannel_pool": 1,
};

/** HOST:PORT of the environment variable TRACKD_TARGET, else 127.0.0.1:7077. */
export function defaultTarget() {
  return process.env.TRACKD_TARGET || DEFAULT_TARGET;
}

/**
 * @typedef {object} Tls Whom to trust, and what to show; all of it PEM.
 * @property {Buffer} [ca] who signs the daemon's certificate; without it the authorities that Node.js brings along
 * @property {Buffer} [cert] a certificate of one's own, with its issuers, for a daemon that asks for one
 * @property {Buffer} [key] its key
 */

/**
 * @typedef {object} Connecting
 * @property {Tls | boolean} [tls] true is {}; without it the connection is in the clear
 * @property {string | (() => string)} [token] a bearer token, or what is asked for one before each call. Beyond
 *   loopback it needs `tls`; `tls: false` says that something else protects the connection
 * @property {import("@grpc/grpc-js").ChannelOptions} [channelOptions] of grpc-js, laid over those of this package
 */

/**
 * A channel to HOST:PORT. It connects when it is first used; the caller closes it.
 * @param {string} target
 * @param {Connecting} [how]
 */
export function openChannel(target, { tls, token, channelOptions } = {}) {
  const loopback = /^(localhost|127(\.\d+){3}|\[::1\]):\d+$/.test(target);
  if (token && tls === undefined && !loopback) {
    throw new TypeError(`the token would travel to ${target} in the clear: give tls, or tls: false`);
  }
  // A proxy named by the environment cannot know this machine's loopback address.
  const direct = loopback ? { "grpc.enable_http_proxy": 0 } : {};
  const options = { ...OPTIONS, ...direct, ...channelOptions };
  return new GrpcClient(target, secured(tls), token ? { ...options, interceptors: [bearing(token)] } : options);
}

/** @param {Tls | boolean | undefined} tls */
function secured(tls) {
  if (!tls) return credentials.createInsecure();
  const { ca, cert, key } = tls === true ? {} : tls;
  return credentials.createSsl(ca, key, cert);
}

/**
 * Not call credentials: those of grpc-js go over TLS only, and loopback needs none.
 * @param {string | (() => string)} token
 * @returns {import("@grpc/grpc-js").Interceptor}
 */
function bearing(token) {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        metadata.set("authorization", `Bearer ${typeof token === "function" ? token() : token}`);
        next(metadata, listener);
      },
    });
}
