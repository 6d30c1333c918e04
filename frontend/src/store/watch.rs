//! Doing something whenever a signal changes, outside of what is drawn.

use crate::reactive::*;

/// Runs `act` soon, and again whenever what it reads changes.
pub fn watch(act: impl FnMut() + 'static) {
    watch_boxed(Box::new(act));
}

/// One effect for all: each type of closure would bring the effect's code along once more.
fn watch_boxed(mut act: Box<dyn FnMut()>) {
    Effect::new(move |_| act());
}
