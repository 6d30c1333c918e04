//! The terminals of the page: bindings to xterm.js ([`vendor`]), one terminal with its place in the output
//! ([`view`]), how often it is drawn ([`picture`]), colours ([`theme`]). The store owns the views and passes frames in and input out; `ui::terminal_pane`
//! only gives them a place on the screen.

mod picture;
pub mod theme;
pub mod vendor;
pub mod view;
