// Fetched when the page first runs a command in a node by itself.

// Kinds of binary messages (drydock_protocol::pipe::exec).
const STDERR = 2;
const STDIN_END = 3;

/** Runs a command behind a WebSocket of the server; what went wrong, or nothing. */
export const run = (path, argv) => new Promise((resolve) => {
  const socket = new WebSocket(location.origin.replace("http", "ws") + path);
  const decoder = new TextDecoder();
  let said = "";
  let result = { message: "The connection broke off." };
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    socket.send(JSON.stringify({ argv }));
    socket.send(new Uint8Array([STDIN_END]));
  };
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") result = JSON.parse(data);
    else if (new Uint8Array(data)[0] === STDERR) said += decoder.decode(data.slice(1), { stream: true });
  };
  socket.onclose = () => resolve(result.status === 0 ? "" : said.trim() || result.message || `It ended with status ${result.status}.`);
});
