//! A value that the page knows and that changes. It is a Leptos signal in two parts: one that tells readers that something
//! has changed, which is the same for all, and the value beside it. A signal of Leptos' own brings some two
//! kilobytes of program along for each type that it holds, and the page knows forty types.

use crate::reactive::*;
use std::{any::Any, cell::RefCell, marker::PhantomData, rc::Rc};

/// A value; copies are handles to the same. It lives as long as the owner that it was made under.
pub struct Known<T> {
    value: StoredValue<Rc<dyn Any>, LocalStorage>,
    changes: RwSignal<u32>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Known<T> {}

impl<T: 'static> Known<T> {
    /// A value that readers can follow.
    pub fn new(value: T) -> Self {
        let (value, changes) = make(Rc::new(RefCell::new(value)));
        Self { value, changes, kind: PhantomData }
    }

    /// Reads it and hears of its next change.
    pub fn with<R>(self, read: impl FnOnce(&T) -> R) -> R {
        self.track();
        self.with_untracked(read)
    }

    /// Reads it once.
    pub fn with_untracked<R>(self, read: impl FnOnce(&T) -> R) -> R {
        let value = self.value.get_value();
        read(&cell(&value).borrow())
    }

    /// Changes it and tells the readers.
    pub fn update<R>(self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = self.update_untracked(change);
        told(self.changes);
        result
    }

    /// Changes it; nobody is told.
    pub fn update_untracked<R>(self, change: impl FnOnce(&mut T) -> R) -> R {
        let value = self.value.get_value();
        change(&mut cell(&value).borrow_mut())
    }

    /// Puts another value in its stead.
    pub fn set(self, value: T) {
        self.update(|old| *old = value);
    }

    /// Hears of its next change.
    pub fn track(self) {
        self.changes.track();
    }
}

impl<T: Clone + 'static> Known<T> {
    /// A copy; hears of the next change.
    pub fn get(self) -> T {
        self.with(T::clone)
    }

    /// A copy.
    pub fn get_untracked(self) -> T {
        self.with_untracked(T::clone)
    }
}

fn make(value: Rc<dyn Any>) -> (StoredValue<Rc<dyn Any>, LocalStorage>, RwSignal<u32>) {
    (StoredValue::new_local(value), RwSignal::new(0))
}

fn told(changes: RwSignal<u32>) {
    changes.update(|n| *n = n.wrapping_add(1));
}

fn cell<T: 'static>(value: &Rc<dyn Any>) -> &RefCell<T> {
    // `new` is the only place that makes one, with this type.
    value.downcast_ref().unwrap_or_else(|| unreachable!("a value changed its type"))
}
