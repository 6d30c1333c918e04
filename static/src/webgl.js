// Fetched only where a graphics card draws WebGL.
export { WebglAddon } from "@xterm/addon-webgl";
