//! What a learner can choose for this browser.

use super::dialog::dialog;
use super::el::{El, el, group};
use crate::reactive::*;
use crate::store::{
    settings::{Settings, Theme},
    use_app,
};
use web_sys::Event;

/// The dialog.
pub fn settings_dialog(open: RwSignal<bool>) -> El {
    let themes = el("fieldset")
        .class("choices")
        .child(el("legend").text("Theme"))
        .child(theme(Theme::System, "system", "As the system"))
        .child(theme(Theme::Light, "light", "Light"))
        .child(theme(Theme::Dark, "dark", "Dark"));
    let terminals = el("fieldset")
        .class("choices")
        .child(el("legend").text("Terminals"))
        .child(letters())
        .child(choice("copy-on-select", "Selecting copies", |s| &mut s.copy_on_select))
        .child(choice("screen-reader", "Tell the output to a screen reader", |s| &mut s.screen_reader));
    dialog(open, "Settings", "settings-dialog", group().child(themes).child(terminals))
}

/// One theme.
fn theme(value: Theme, name: &str, words: &str) -> El {
    let settings = use_app().settings;
    let input = el("input")
        .attr("type", "radio")
        .attr("name", "theme")
        .testid(format!("theme-{name}"))
        .checked(move || settings.with(|s| s.theme) == value)
        .on("change", move |_: Event| settings.update(|s| s.theme = value));
    el("label").child(input).text(words)
}

/// The size of the terminals' letters.
fn letters() -> El {
    let settings = use_app().settings;
    let step = move |words: &str, testid: &str, label: &str, step: i8| {
        el("button")
            .attr("aria-label", label)
            .testid(testid)
            .click(move || settings.update(|s| s.change_font(step)))
            .text(words)
    };
    el("span")
        .class("font-size")
        .text("Size of letters")
        .child(step("A−", "font-smaller", "A−, smaller letters", -1))
        .child(el("output").text_of(move || settings.with(|s| s.font_size.to_string())))
        .child(step("A+", "font-larger", "A+, larger letters", 1))
}

/// Something that is so or not.
fn choice(testid: &str, words: &str, field: fn(&mut Settings) -> &mut bool) -> El {
    let settings = use_app().settings;
    let input = el("input")
        .attr("type", "checkbox")
        .testid(testid)
        .checked(move || *field(&mut settings.get()))
        .on("change", move |event: Event| settings.update(|s| *field(s) = event_target_checked(&event)));
    el("label").child(input).text(words)
}
