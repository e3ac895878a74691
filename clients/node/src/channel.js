/**
 * How this package connects: one place for the options of its gRPC channels.
 */
import { Client as GrpcClient, credentials } from "@grpc/grpc-js";

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
 * A channel without TLS to HOST:PORT. It connects when it is first used; the caller closes it.
 * @param {string} target
 * @param {import("@grpc/grpc-js").ChannelOptions} [options] of grpc-js, laid over those of this package
 */
export function openChannel(target, options = {}) {
  // A proxy named by the environment cannot know this machine's loopback address.
  const direct = /^(localhost|127(\.\d+){3}|\[::1\]):\d+$/.test(target) ? { "grpc.enable_http_proxy": 0 } : {};
  return new GrpcClient(target, credentials.createInsecure(), { ...OPTIONS, ...direct, ...options });
}
