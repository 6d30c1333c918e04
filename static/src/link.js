// The worker that holds the page's WebSockets (see socket.js). Its name is that of the channel back.
const channel = new BroadcastChannel(self.name);
const sockets = new Map();

// Terminals' short frames (in bytes) take the channel soon after a key (in milliseconds), but so many in a while: a message there costs
// the browser more than one that is handed over.
const SHORT = 4096;
const SOON = 250;
const MANY = 16;
const WHILE = 50;
// First byte of a frame with keys (drydock_protocol::frame).
const INPUT = 0;
let typed = -SOON;
let began = -WHILE;
let count = 0;

function isUrgent(bytes) {
  const now = performance.now();
  if (now - typed >= SOON) return false;
  if (now - began >= WHILE) [began, count] = [now, 0];
  return bytes <= SHORT && count++ < MANY;
}

function open({ id, url, protocol }) {
  let n = 0;
  const tell = (type, value) => {
    const message = { id, n: n++, type, value };
    const bytes = value?.byteLength;
    if (isUrgent(bytes)) channel.postMessage(message);
    else postMessage(message, bytes === undefined ? [] : [value]);
  };
  let socket;
  try {
    socket = new WebSocket(url, protocol);
  } catch {
    tell("close", 1006);
    return;
  }
  sockets.set(id, socket);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => tell("open");
  socket.onmessage = ({ data }) => tell("message", data);
  socket.onclose = ({ code }) => {
    sockets.delete(id);
    tell("close", code);
  };
}

self.onmessage = ({ data: message }) => {
  if (message.url) {
    open(message);
    return;
  }
  const socket = sockets.get(message.id);
  if (message.data?.[0] === INPUT) typed = performance.now();
  if (message.data === undefined) socket?.close();
  else if (socket?.readyState === WebSocket.OPEN) socket.send(message.data);
};
