//! What the views are made of besides elements. Leptos compiles its rendering anew for each type of closure in a view,
//! which made the page three times as large; everything here puts closures into boxes of a few types first, so that
//! the code exists once.

use leptos::prelude::*;
use std::sync::Arc;

/// Text or an attribute's value that changes.
pub type Text = Box<dyn Fn() -> String + Send + Sync>;
/// An attribute's value that may be absent.
pub type Maybe = Box<dyn Fn() -> Option<String> + Send + Sync>;
/// Something that is so or not.
pub type Flag = Box<dyn Fn() -> bool + Send + Sync>;
/// A part of a view that changes.
pub type Part = Box<dyn Fn() -> AnyView + Send + Sync>;

/// Text or an attribute's value that changes.
pub fn text<S: Into<String>>(read: impl Fn() -> S + Send + Sync + 'static) -> Text {
    Box::new(move || read().into())
}

/// An attribute's value that may be absent.
pub fn maybe(read: impl Fn() -> Option<String> + Send + Sync + 'static) -> Maybe {
    Box::new(read)
}

/// Something that is so or not.
pub fn flag(read: impl Fn() -> bool + Send + Sync + 'static) -> Flag {
    Box::new(read)
}

/// A part of a view that changes.
pub fn part(read: impl Fn() -> AnyView + Send + Sync + 'static) -> Part {
    Box::new(read)
}

/// What an event does.
pub fn on<E: 'static>(act: impl FnMut(E) + 'static) -> Box<dyn FnMut(E)> {
    Box::new(act)
}

/// A part of a view that is there only while something is so.
pub fn when(
    is_so: impl Fn() -> bool + Send + Sync + 'static, content: impl Fn() -> AnyView + Send + Sync + 'static,
) -> Part {
    when_boxed(Box::new(is_so), Box::new(content))
}

fn when_boxed(is_so: Flag, content: Part) -> Part {
    // The content is made anew only when the answer changes.
    let is_so = Memo::new(move |_| is_so());
    Box::new(move || if is_so.get() { content() } else { ().into_any() })
}

/// A part of a view for each of a list of numbers; a number keeps its part for as long as it is in the list.
pub fn each(
    numbers: impl Fn() -> Vec<u32> + Send + Sync + 'static, content: impl Fn(u32) -> AnyView + Send + Sync + 'static,
) -> AnyView {
    each_boxed(Box::new(numbers), Arc::new(content))
}

fn each_boxed(
    numbers: Box<dyn Fn() -> Vec<u32> + Send + Sync>, content: Arc<dyn Fn(u32) -> AnyView + Send + Sync>,
) -> AnyView {
    let numbers = Memo::new(move |_| numbers());
    view! { <For each=move || numbers.get() key=|n| *n children=move |n| content(n)/> }.into_any()
}
