/** Bytes of events that wait for a reader after the first ones. The stream of one that falls further behind ends. */
export const MOST_UNREAD = 2 ** 20;

/** Sends an event by its name and data. */
export type Send = (event: string, data: unknown) => void;

/**
 * An answer of server-sent events. If it ends because its reader is slow, the reader may ask again: browsers do that by
 * themselves, and are told how all is then.
 *
 * @param run sends events, and ends the stream. What it sends before it returns is not limited. The signal is aborted
 * when the stream has ended, or its reader has gone
 */
export function eventStream(
  run: (send: Send, end: () => void, gone: AbortSignal) => void,
): Response {
  const gone = new AbortController(), encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // Nobody can have read what is sent at first, however long it is.
      let most = Infinity;
      const unread = () => MOST_UNREAD - controller.desiredSize!;
      const send: Send = (event, data) => {
        if (gone.signal.aborted) return;
        if (unread() >= most) return end();
        controller.enqueue(encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
      };
      const end = () => {
        if (gone.signal.aborted) return;
        gone.abort();
        controller.close();
      };
      run(send, end, gone.signal);
      if (!gone.signal.aborted) most = MOST_UNREAD + unread();
    },
    cancel: () => gone.abort(),
  }, new ByteLengthQueuingStrategy({ highWaterMark: MOST_UNREAD }));
  return new Response(body, { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } });
}
