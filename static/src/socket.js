// A WebSocket that lives in a worker, with the part of WebSocket's interface that the page uses. In the page itself Chromium puts
// off what a WebSocket brings after a key until it has drawn a frame (DeferRendererTasksAfterInput), up to 16 ms, and so it
// does with messages of a worker; only those over a BroadcastChannel come at once. Each of those goes through the browser's own process,
// so only short ones take that way; numbers keep the order of both.
let worker, channel;
let next = 0;
const sockets = new Map();

/** Starts the worker; it opens sockets as long as the page lives. */
function start() {
  // Not randomUUID, which pages without TLS lack.
  const name = crypto.getRandomValues(new Uint32Array(4)).join("-");
  channel = new BroadcastChannel(name);
  worker = new Worker(LINK_URL, { name });
  worker.onmessage = channel.onmessage = ({ data }) => sockets.get(data.id)?.take(data);
  worker.onerror = stop;
}

/** The worker could not be fetched: all is closed, and the next socket tries again. */
function stop() {
  worker.terminate();
  channel.close();
  worker = undefined;
  for (const socket of [...sockets.values()]) socket.tell({ type: "close", value: 1006 });
}

export class Socket extends EventTarget {
  #id = next++;
  #due = 0;
  #early = new Map();
  readyState = WebSocket.CONNECTING;

  constructor(url, protocol) {
    super();
    if (!worker) start();
    sockets.set(this.#id, this);
    worker.postMessage({ id: this.#id, url, protocol });
  }

  /** `data`: a string, or a Uint8Array of its own, which is given away. */
  send(data) {
    worker?.postMessage({ id: this.#id, data }, typeof data === "string" ? [] : [data.buffer]);
  }

  close() {
    this.readyState = WebSocket.CLOSED;
    sockets.delete(this.#id);
    worker?.postMessage({ id: this.#id });
  }

  /** What the worker tells, in any order. */
  take(message) {
    this.#early.set(message.n, message);
    for (let due; (due = this.#early.get(this.#due)); this.#due++) {
      this.#early.delete(this.#due);
      this.tell(due);
    }
  }

  tell({ type, value }) {
    if (this.readyState === WebSocket.CLOSED) return;
    if (type === "open") this.readyState = WebSocket.OPEN;
    if (type === "close") {
      this.readyState = WebSocket.CLOSED;
      sockets.delete(this.#id);
      this.dispatchEvent(new CloseEvent(type, { code: value }));
    } else {
      this.dispatchEvent(new MessageEvent(type, { data: value }));
    }
  }
}

// Ahead of the first socket, if this browser has what it takes; the page says so if not.
if (typeof Worker === "function" && typeof BroadcastChannel === "function") start();
