// The text editor of the files dock, fetched on first use. `open` is all that the page calls
// (frontend/src/ui/file_editor.rs).
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import {
  bracketMatching, defaultHighlightStyle, HighlightStyle, indentOnInput, indentUnit, StreamLanguage, syntaxHighlighting,
} from "@codemirror/language";
import { dockerFile } from "@codemirror/legacy-modes/mode/dockerfile";
import { json } from "@codemirror/legacy-modes/mode/javascript";
import { properties } from "@codemirror/legacy-modes/mode/properties";
import { python } from "@codemirror/legacy-modes/mode/python";
import { shell } from "@codemirror/legacy-modes/mode/shell";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

/** The language of a file, told by its name. */
function language(name) {
  if (/\.ya?ml$/i.test(name)) return [yaml(), indentUnit.of("  ")];
  const mode = /(^|\/)(Dockerfile|Containerfile)(\.|$)|\.dockerfile$/i.test(name) ? dockerFile
    : /\.(sh|bash|zsh)$|(^|\/)\.(bashrc|profile|bash_profile|bash_aliases)$/i.test(name) ? shell
    : /\.json$/i.test(name) ? json
    : /\.py$/i.test(name) ? python
    : /\.(conf|cfg|ini|env|properties|toml)$|(^|\/)\.env$/i.test(name) ? properties
    : null;
  return mode ? [StreamLanguage.define(mode)] : [];
}

const darkHighlight = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "#c3a6ff" },
  { tag: [tags.string, tags.special(tags.string)], color: "#a5d6a7" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "#ffb86c" },
  { tag: [tags.comment, tags.meta], color: "#93a1b5", fontStyle: "italic" },
  { tag: [tags.propertyName, tags.definition(tags.propertyName), tags.attributeName], color: "#82c7ff" },
  { tag: [tags.variableName, tags.definition(tags.variableName)], color: "#e6edf5" },
  { tag: tags.invalid, color: "#ff8f8f" },
]);

/**
 * How lines end. CodeMirror makes one kind of all, so a file whose lines end with CR and LF gets them back when it is saved; in one
 * with several kinds a line ends with LF only, and the rest is text.
 */
function lineEnds(text) {
  if (!text.includes("\r")) return { with: "\n", extensions: [] };
  if (/\r\n/.test(text) && !/\r(?!\n)|(?<!\r)\n/.test(text)) return { with: "\r\n", extensions: [] };
  const pasted = EditorView.clipboardInputFilter.of((pasted) => pasted.replace(/\r\n?/g, "\n"));
  return { with: "\n", extensions: [EditorState.lineSeparator.of("\n"), pasted] };
}

/**
 * Opens an editor in `parent`. `on.save` is called by Ctrl+S, `on.change` when the text first differs.
 * Answers an object with `text()`, `focus()` and `destroy()`.
 */
export function open(parent, text, name, dark, readOnly, on) {
  const keys = [
    { key: "Mod-s", run: () => { on.save(); return true; }, preventDefault: true },
    // Escape then Tab leaves the editor: CodeMirror turns Tab handling off for the next key after Escape.
    indentWithTab, ...defaultKeymap, ...historyKeymap, ...searchKeymap,
  ];
  const ends = lineEnds(text);
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        keymap.of(keys), lineNumbers(), history(), drawSelection(), indentOnInput(), bracketMatching(), highlightActiveLine(),
        ends.extensions, highlightSelectionMatches(), search({ top: true }), language(name),
        syntaxHighlighting(dark ? darkHighlight : defaultHighlightStyle, { fallback: true }),
        EditorView.theme({}, { dark }),
        EditorState.readOnly.of(readOnly), EditorView.editable.of(!readOnly),
        EditorView.contentAttributes.of({ "aria-label": `Text of ${name}. Escape, then Tab leaves the editor.` }),
        EditorView.updateListener.of((update) => { if (update.docChanged) on.change(); }),
      ],
    }),
  });
  return { text: () => view.state.doc.toString().replace(/\n/g, ends.with), focus: () => view.focus(), destroy: () => view.destroy() };
}
