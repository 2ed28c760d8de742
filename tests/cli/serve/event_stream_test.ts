import { assert, assertEquals } from "@std/assert";
import { eventStream, MOST_UNREAD, type Send } from "../../../cli/serve/event_stream.ts";

const EVENT = { text: "x".repeat(1000) };

Deno.test("events wait for their reader", async () => {
  let told: Send | undefined, finish: (() => void) | undefined;
  const answer = eventStream((send, end) => [told, finish] = [send, end]);
  for (let i = 0; i < 100; i++) told!("one", EVENT);
  finish!();
  assertEquals((await answer.text()).split("event: one\n").length - 1, 100);
});

Deno.test("what is sent at first arrives whole, and so does what comes then", async () => {
  let told: Send | undefined, finish: (() => void) | undefined;
  const many = Math.ceil(2 * MOST_UNREAD / EVENT.text.length);
  const answer = eventStream((send, end) => {
    for (let i = 0; i < many; i++) send("one", EVENT);
    [told, finish] = [send, end];
  });
  for (let i = 0; i < 100; i++) told!("one", EVENT);
  finish!();
  assertEquals((await answer.text()).split("event: one\n").length - 1, many + 100);
});

Deno.test("events for a reader that does not read take no more than a bounded memory, and the server goes on", async () => {
  let sent = 0, hasEnded = false;
  const server = Deno.serve({ port: 0, hostname: "localhost", onListen() {} }, () =>
    eventStream((send, _, gone) => {
      // Far more than the buffers of a connection hold.
      const timer = setInterval(() => {
        for (let i = 0; i < 1000 && !gone.aborted; i++, sent++) send("many", EVENT);
        if (!gone.aborted) return;
        clearInterval(timer);
        hasEnded = true;
      });
    }));
  const connection = await Deno.connect({ hostname: "localhost", port: server.addr.port });
  await connection.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  while (!hasEnded) await new Promise((resolve) => setTimeout(resolve, 5));
  assert(sent * 1000 > MOST_UNREAD, `${sent} events`);
  // What was sent until then can be read, and then it ends as any answer does.
  const text = await new Response(connection.readable.pipeThrough(
    new TransformStream({
      transform(bytes, controller) {
        controller.enqueue(bytes);
        if (new TextDecoder().decode(bytes).endsWith("\r\n0\r\n\r\n")) controller.terminate();
      },
    }),
  )).text();
  assertEquals(text.split("event: many\n").length - 1, sent - 1);
  await server.shutdown();
});
