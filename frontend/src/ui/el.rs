//! How the page's elements are made: by a small builder over Leptos' signals and owners. Leptos' own `view!` compiles
//! its rendering anew for every type of view, which cost a good third of this page's program and its limit for the first
//! load; here each step is one function, and closures are boxed at its door. What changes is followed by an effect of
//! the owner that the element was made under, and ends with it.

use crate::browser;
use crate::reactive::*;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use web_sys::{Element, Event, HtmlElement, Node};

/// An element that is being made, or a few without a parent of their own ([`group`]).
#[derive(Clone)]
pub struct El(Node);

/// An element of HTML.
pub fn el(name: &str) -> El {
    El(checked(document().create_element(name)).into())
}

/// An element of SVG.
pub fn svg(name: &str) -> El {
    El(checked(document().create_element_ns(Some("http://www.w3.org/2000/svg"), name)).into())
}

/// Several elements in the place of one.
pub fn group() -> El {
    El(document().create_document_fragment().into())
}

/// No element.
pub fn nothing() -> El {
    group()
}

/// Puts an element into the page for good.
pub fn mount(root: impl FnOnce() -> El + 'static) {
    start(move || {
        let El(node) = root();
        if let Some(body) = document().body() {
            let _ = body.append_child(&node);
        }
    });
}

/// Names of elements and attributes are constants of this program, so the browser never refuses them.
fn checked<T>(made: Result<T, JsValue>) -> T {
    made.unwrap_or_else(|e| wasm_bindgen::throw_val(e))
}

impl El {
    // === What stays as it is

    /// Classes.
    pub fn class(self, names: &str) -> Self {
        self.set("class", names);
        self
    }

    /// Its name for tests.
    pub fn testid(self, name: impl AsRef<str>) -> Self {
        self.attr("data-testid", name)
    }

    /// An attribute.
    pub fn attr(self, name: &str, value: impl AsRef<str>) -> Self {
        self.set(name, value.as_ref());
        self
    }

    /// Text after what is in it already.
    pub fn text(self, text: impl AsRef<str>) -> Self {
        self.append(&document().create_text_node(text.as_ref()));
        self
    }

    /// An element after what is in it already.
    pub fn child(self, child: El) -> Self {
        self.append(&child.0);
        self
    }

    /// Elements after what is in it already.
    pub fn children(self, children: impl IntoIterator<Item = El>) -> Self {
        children.into_iter().for_each(|child| self.append(&child.0));
        self
    }

    /// Markup that this server has made.
    pub fn html(self, markup: &str) -> Self {
        self.element().set_inner_html(markup);
        self
    }

    // === What changes

    /// An attribute that changes.
    pub fn attr_of<S: Into<String>>(self, name: &'static str, read: impl Fn() -> S + 'static) -> Self {
        self.attr_maybe(name, move || Some(read().into()))
    }

    /// An attribute that changes and may be absent.
    pub fn attr_maybe(self, name: &'static str, read: impl Fn() -> Option<String> + 'static) -> Self {
        self.follow_attr(name, Box::new(read));
        self
    }

    /// An attribute that is there while something is so.
    pub fn attr_if(self, name: &'static str, is_so: impl Fn() -> bool + 'static) -> Self {
        self.follow_flag(name, "", Box::new(is_so));
        self
    }

    /// A button that does nothing while something is so. It can keep the focus meanwhile, which `disabled` would take from it.
    pub fn off_if(self, is_so: impl Fn() -> bool + 'static) -> Self {
        self.follow_flag("aria-disabled", "true", Box::new(is_so));
        self
    }

    /// A class that it has while something is so.
    pub fn class_if(self, name: &'static str, is_so: impl Fn() -> bool + 'static) -> Self {
        self.follow_class(name, Box::new(is_so));
        self
    }

    /// Text that changes.
    pub fn text_of<S: Into<String>>(self, read: impl Fn() -> S + 'static) -> Self {
        self.follow_text(Box::new(move || read().into()));
        self
    }

    /// What an input holds.
    pub fn value(self, read: impl Fn() -> String + 'static) -> Self {
        self.follow_property("value", Box::new(move || read().into()));
        self
    }

    /// Whether a box is ticked.
    pub fn checked(self, is_so: impl Fn() -> bool + 'static) -> Self {
        self.follow_property("checked", Box::new(move || is_so().into()));
        self
    }

    /// A part that is made anew whenever what it reads changes.
    pub fn part(self, make: impl FnMut() -> El + 'static) -> Self {
        self.follow_part(Box::new(make));
        self
    }

    /// A part that is there while something is so.
    pub fn when(self, is_so: impl Fn() -> bool + 'static, make: impl Fn() -> El + 'static) -> Self {
        self.follow_when(Box::new(is_so), Box::new(make));
        self
    }

    /// A part that is made anew when what `read` tells becomes another.
    pub fn switch<T: PartialEq + Clone + 'static>(
        self,
        read: impl Fn() -> T + 'static,
        make: impl Fn(T) -> El + 'static,
    ) -> Self {
        let told = Rc::new(RefCell::new(None));
        let now = told.clone();
        let changed = move || {
            let new = Some(read());
            let changed = *told.borrow() != new;
            told.replace(new);
            changed
        };
        let make = move || now.borrow().clone().map_or_else(nothing, &make);
        self.follow_switch(Box::new(changed), Box::new(make));
        self
    }

    /// An element for each of a list of numbers; a number keeps its element for as long as it is in the list.
    pub fn each(self, numbers: impl Fn() -> Vec<u32> + 'static, make: impl Fn(u32) -> El + 'static) -> Self {
        self.follow_each(Box::new(numbers), Box::new(make));
        self
    }

    // === What it does

    /// What happens at an event.
    pub fn on<E: JsCast>(self, event: &str, mut act: impl FnMut(E) + 'static) -> Self {
        self.listen(event, Box::new(move |event: Event| act(event.unchecked_into())));
        self
    }

    /// What happens at an event before anything inside hears of it, which may keep it to itself.
    pub fn on_first<E: JsCast>(self, event: &str, mut act: impl FnMut(E) + 'static) -> Self {
        self.hear(event, Box::new(move |event: Event| act(event.unchecked_into())), true);
        self
    }

    /// What a click does.
    pub fn click(self, mut act: impl FnMut() + 'static) -> Self {
        self.listen("click", Box::new(move |_| act()));
        self
    }

    /// Gets the focus once it is in the page.
    pub fn focus(self) -> Self {
        let element: HtmlElement = self.dom();
        self.mounted(move || {
            let _ = element.focus();
        })
    }

    /// Called once it is in the page.
    pub fn mounted(self, act: impl FnOnce() + 'static) -> Self {
        // What makes an element puts it into the page before the next turn.
        queue_microtask(act);
        self
    }

    /// The element itself.
    pub fn dom<T: JsCast + Clone>(&self) -> T {
        self.0.unchecked_ref::<T>().clone()
    }
}

// === How it is done, once for all types

impl El {
    fn element(&self) -> &Element {
        self.0.unchecked_ref()
    }

    fn set(&self, name: &str, value: &str) {
        let _ = self.element().set_attribute(name, value);
    }

    fn append(&self, node: &Node) {
        let _ = self.0.append_child(node);
    }

    fn listen(&self, event: &str, act: Box<dyn FnMut(Event)>) {
        self.hear(event, act, false);
    }

    fn hear(&self, event: &str, act: Box<dyn FnMut(Event)>, first: bool) {
        // JavaScript owns the closure: it goes when the element does.
        let act = Closure::wrap(act).into_js_value();
        let _ = self.0.add_event_listener_with_callback_and_bool(event, act.unchecked_ref(), first);
    }

    fn follow_attr(&self, name: &'static str, read: Box<dyn Fn() -> Option<String>>) {
        let this = self.clone();
        let mut told = None;
        follow(Box::new(move || {
            let now = read();
            if now == told {
                return;
            }
            match &now {
                Some(value) => this.set(name, value),
                None => {
                    let _ = this.element().remove_attribute(name);
                }
            }
            told = now;
        }));
    }

    fn follow_flag(&self, name: &'static str, value: &'static str, is_so: Box<dyn Fn() -> bool>) {
        self.follow_attr(name, Box::new(move || is_so().then(|| value.to_owned())));
    }

    fn follow_class(&self, name: &'static str, is_so: Box<dyn Fn() -> bool>) {
        let classes = self.element().class_list();
        follow(Box::new(move || {
            let _ = classes.toggle_with_force(name, is_so());
        }));
    }

    fn follow_text(&self, read: Box<dyn Fn() -> String>) {
        let node = document().create_text_node("");
        self.append(&node);
        let mut told = String::new();
        follow(Box::new(move || {
            let now = read();
            if now != told {
                node.set_data(&now);
                told = now;
            }
        }));
    }

    fn follow_property(&self, name: &'static str, read: Box<dyn Fn() -> JsValue>) {
        let this = self.clone();
        follow(Box::new(move || {
            let _ = js_sys::Reflect::set(&this.0, &name.into(), &read());
        }));
    }

    fn follow_part(&self, mut make: Box<dyn FnMut() -> El>) {
        let place = Place::at_end_of(self);
        follow(Box::new(move || {
            let El(new) = make();
            place.clear();
            place.put(&new);
        }));
    }

    fn follow_when(&self, is_so: Box<dyn Fn() -> bool>, make: Box<dyn Fn() -> El>) {
        let shown = Rc::new(Cell::new(false));
        let now = shown.clone();
        let changed = move || {
            let new = is_so();
            shown.replace(new) != new
        };
        let make = move || if now.get() { make() } else { nothing() };
        self.follow_switch(Box::new(changed), Box::new(make));
    }

    fn follow_switch(&self, mut changed: Box<dyn FnMut() -> bool>, make: Box<dyn Fn() -> El>) {
        let place = Place::at_end_of(self);
        let scope = Owner::current().unwrap_or_default();
        let mut shown: Option<Owner> = None;
        follow(Box::new(move || {
            if !changed() {
                return;
            }
            if let Some(owner) = shown.take() {
                place.clear();
                owner.cleanup();
            }
            let owner = scope.child();
            let El(new) = untrack(|| owner.with(&make));
            place.put(&new);
            shown = Some(owner);
        }));
    }

    fn follow_each(&self, numbers: Box<dyn Fn() -> Vec<u32>>, make: Box<dyn Fn(u32) -> El>) {
        let place = Place::at_end_of(self);
        let scope = Owner::current().unwrap_or_default();
        let mut rows: Vec<(u32, Node, Owner)> = Vec::new();
        follow(Box::new(move || {
            let numbers = numbers();
            rows.retain(|(number, node, owner)| {
                let stays = numbers.contains(number);
                if !stays {
                    remove(node);
                    owner.cleanup();
                }
                stays
            });
            // Whoever is in its place already is not touched: moving an element takes the focus out of it.
            let mut here = place.start.next_sibling();
            for number in numbers {
                let known = rows.iter().find(|(n, ..)| *n == number).map(|(_, node, _)| node.clone());
                let node = known.unwrap_or_else(|| {
                    let owner = scope.child();
                    let El(node) = untrack(|| owner.with(|| make(number)));
                    rows.push((number, node.clone(), owner));
                    node
                });
                if here.as_ref() == Some(&node) {
                    here = node.next_sibling();
                } else {
                    place.put_before(&node, here.as_ref());
                }
            }
        }));
    }
}

/// Runs something now and whenever what it reads changes, until its owner ends.
fn follow(mut act: Box<dyn FnMut()>) {
    // An effect ends when it is dropped; its owner keeps it.
    StoredValue::new_local(RenderEffect::new(move |_| act()));
}

fn remove(node: &Node) {
    if let Some(parent) = node.parent_node() {
        browser::keep_focus(node);
        let _ = parent.remove_child(node);
    }
}

/// A place inside an element, between two comments that nobody sees.
struct Place {
    start: Node,
    end: Node,
}

impl Place {
    fn at_end_of(parent: &El) -> Self {
        let comment = || Node::from(document().create_comment(""));
        let place = Self { start: comment(), end: comment() };
        parent.append(&place.start);
        parent.append(&place.end);
        place
    }

    fn clear(&self) {
        while let Some(node) = self.start.next_sibling().filter(|node| *node != self.end) {
            remove(&node);
        }
    }

    fn put(&self, node: &Node) {
        self.put_before(node, Some(&self.end));
    }

    fn put_before(&self, node: &Node, next: Option<&Node>) {
        // Looked up each time: what was made in a group lives in another parent by now.
        if let Some(parent) = self.end.parent_node() {
            let _ = parent.insert_before(node, next.or(Some(&self.end)));
        }
    }
}
