// Fetched when somebody searches in a terminal.
export { SearchAddon } from "@xterm/addon-search";
