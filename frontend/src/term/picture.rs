//! What a terminal shows of a flood: xterm.js draws it as often as `logic::pace` says, not with every frame of the browser.

use super::vendor;
use crate::{browser::now, logic::pace::Pace};
use gloo_timers::callback::Timeout;
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

/// The picture of one terminal.
pub struct Picture {
    xterm: vendor::Terminal,
    pace: RefCell<Pace>,
    /// Lets the picture go.
    timer: RefCell<Option<Timeout>>,
    /// The program itself holds it (DEC mode 2026).
    held_by_program: Cell<bool>,
    own: Weak<Self>,
}

impl Picture {
    /// Of this xterm.js.
    pub fn new(xterm: vendor::Terminal) -> Rc<Self> {
        Rc::new_cyclic(|own| Self {
            xterm,
            pace: RefCell::default(),
            timer: RefCell::default(),
            held_by_program: Cell::new(false),
            own: own.clone(),
        })
    }

    /// Output is about to be parsed.
    pub fn output(&self, bytes: usize) {
        let wait = self.pace.borrow_mut().output(bytes, now());
        let Some(wait) = wait else { return };
        if !self.held_by_program.get() {
            vendor::hold_picture(&self.xterm, true);
        }
        self.let_go_after(wait);
    }

    /// All that came is parsed.
    pub fn idle(&self) {
        let wait = self.pace.borrow().idle(now());
        if let Some(wait) = wait {
            self.let_go_after(wait);
        }
    }

    /// xterm.js has drawn: nobody holds the picture, also if a program went without a word.
    pub fn drawn(&self) {
        self.held_by_program.set(false);
        self.pace.borrow_mut().drawn(now());
    }

    /// The program holds the picture, or lets it go.
    pub fn program_holds(&self, yes: bool) {
        self.held_by_program.set(yes);
    }

    fn let_go_after(&self, wait: f64) {
        let own = self.own.clone();
        let timer = Timeout::new(wait.ceil() as u32, move || {
            if let Some(picture) = own.upgrade() {
                picture.let_go();
            }
        });
        // The one before is cancelled.
        self.timer.replace(Some(timer));
    }

    fn let_go(&self) {
        self.pace.borrow_mut().let_go();
        if !self.held_by_program.get() {
            vendor::hold_picture(&self.xterm, false);
        }
    }
}
