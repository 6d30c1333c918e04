//! The page: a WebAssembly program that frontend/index.html loads and `drydock serve` hands out. It shows what
//! the server tells ([`store`]), draws it ([`ui`], [`term`]) and talks to nobody but this one server ([`net`]).

mod browser;
mod logic;
mod net;
mod reactive;
mod store;
mod term;
mod testids;
mod ui;

fn main() {
    console_error_panic_hook::set_once();
    if let Some(boot) = reactive::document().get_element_by_id("boot") {
        boot.remove();
    }
    ui::run();
}
