/**
 * A web service that tells trackd what its users do: GET /reviews/42 is one event.
 *
 *     node clients/node/example.js        then: curl http://127.0.0.1:8080/reviews/42
 *
 * Events are handed to one Appender. It sends them in batches and waits out a daemon that is away, for up to a day.
 * When the process is asked to end, what is still open is sent before.
 */
import { createServer } from "node:http";
import { Appender, newEvent } from "./src/index.js"; // installed: from "trackd-client"

const OPEN_EVENTS_MAX = 20_000;

const appender = new Appender(process.env.TRACKD_TARGET, {
  source: "reviews",
  giveUpAfterMs: 24 * 3_600_000, // a server outlives a daemon that is away for long
  onResult: ({ rejections }) => {
    for (const { event, message } of rejections) console.error(`not stored: ${event.type}: ${message}`);
  },
});

/** Nobody waits for it: a daemon that is away for long costs events, and not requests. */
function record(type, fields) {
  if (appender.unacknowledged >= OPEN_EVENTS_MAX) return console.error(`not recorded: ${type}: the daemon is away`);
  appender.send(newEvent(type, fields)).catch((error) => console.error(`not recorded: ${error.message}`));
}

const server = createServer(({ socket, url }, response) => {
  response.end("hello\n");
  record("review_opened", { clientIp: socket.remoteAddress, metadata: { path: url } });
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    server.close(async () => console.log(await appender.close())); // sends what is open
    server.closeIdleConnections();
  });
}

const port = Number(process.env.PORT ?? 8080);
server.listen(port, "127.0.0.1", () => console.log("listening on", server.address().port));
