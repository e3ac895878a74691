/**
 * A web service that tells trackd what its users do: GET /reviews/42 is one event.
 *
 *     node clients/node/example.js        then: curl http://127.0.0.1:8080/reviews/42
 *
 * Events are handed to one Appender. It sends them in batches, waits out a daemon that is away, and loses none of them
 * while this process lives. At Ctrl-C what is still open is sent before the process ends.
 */
import { createServer } from "node:http";
import { setInterval } from "node:timers";
import { Appender, newEvent } from "./src/index.js"; // installed: from "trackd-client"

const appender = new Appender(process.env.TRACKD_TARGET, {
  source: "reviews",
  onResult: ({ rejections }) => {
    for (const { event, message } of rejections) console.error(`not stored: ${event.type}: ${message}`);
  },
});

const server = createServer(async (request, response) => {
  try {
    const { socket, url } = request;
    await appender.send(newEvent("review_opened", { clientIp: socket.remoteAddress, metadata: { path: url } }));
    response.end("hello\n");
  } catch (error) {
    response.writeHead(503).end(`${error.message}\n`);
  }
});

// A partial batch goes out once a second.
const ticking = setInterval(() => appender.flush().catch((error) => console.error(error.message)), 1_000);

process.once("SIGINT", async () => {
  clearInterval(ticking);
  server.close();
  console.log(await appender.close());
});

server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => console.log("listening on", server.address().port));
