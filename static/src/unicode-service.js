// The two functions of xterm.js that its table of character widths (addon-unicode11) calls. The add-on's own bundle brings
// all that this class is made of in xterm.js along once more, which is more than the table itself.
export const UnicodeService = {
  extractWidth: (properties) => (properties >> 1) & 3,
  createPropertyValue: (state, width, shouldJoin = false) => ((state & 0xffffff) << 3) | ((width & 3) << 1) | (shouldJoin ? 1 : 0),
};
