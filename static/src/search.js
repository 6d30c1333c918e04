// Fetched when somebody searches in a terminal.
import { SearchAddon } from "@xterm/addon-search";

// As readable as what is drawn in them: xterm.js mends the letters' colour.
const DARK = { matchBackground: "#5a4a10", matchOverviewRuler: "#e3b341", activeMatchBackground: "#a04e00", activeMatchColorOverviewRuler: "#ff8a3d" };
const LIGHT = { matchBackground: "#ffe9a8", matchOverviewRuler: "#b08800", activeMatchBackground: "#ffb566", activeMatchColorOverviewRuler: "#c24e00" };

/** Finds text in a terminal, marks it wherever it is, and tells `told` which of how many the present one is: "3 of 17". */
export class Search extends SearchAddon {
  constructor() {
    super();
    this.onDidChangeResults(({ resultIndex, resultCount }) => {
      // Of a thousand and more the rest is neither marked nor counted.
      this.told?.(resultCount === 0 ? "not found" : resultIndex < 0 ? `of ${resultCount} or more` : `${resultIndex + 1} of ${resultCount}`);
    });
  }

  find(text, back, dark) {
    const options = { decorations: dark ? DARK : LIGHT };
    if (back) this.findPrevious(text, options);
    else this.findNext(text, options);
    if (!text) this.told?.("");
  }
}
