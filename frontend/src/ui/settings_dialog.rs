//! What a learner can choose for this browser.

use super::dialog::dialog;
use super::el::{El, el, group};
use crate::store::{settings::Theme, use_app};
use leptos::prelude::*;
use web_sys::Event;

/// The dialog.
pub fn settings_dialog(open: RwSignal<bool>) -> El {
    let settings = use_app().settings;
    let theme = move |value: Theme, name: &'static str, words: &'static str| {
        el("label")
            .child(
                el("input")
                    .attr("type", "radio")
                    .attr("name", "theme")
                    .testid(format!("theme-{name}"))
                    .checked(move || settings.with(|s| s.theme) == value)
                    .on("change", move |_: Event| settings.update(|s| s.theme = value)),
            )
            .text(words)
    };
    let content = group()
        .child(
            el("fieldset")
                .class("choices")
                .child(el("legend").text("Theme"))
                .child(theme(Theme::System, "system", "As the system"))
                .child(theme(Theme::Light, "light", "Light"))
                .child(theme(Theme::Dark, "dark", "Dark")),
        )
        .child(
            el("fieldset")
                .class("choices")
                .child(el("legend").text("Terminals"))
                .child(
                    el("span")
                        .class("font-size")
                        .text("Size of letters")
                        .child(
                            el("button")
                                .attr("aria-label", "A−, smaller letters")
                                .testid("font-smaller")
                                .click(move || settings.update(|s| s.change_font(-1)))
                                .text("A−"),
                        )
                        .child(el("output").text_of(move || settings.with(|s| s.font_size.to_string())))
                        .child(
                            el("button")
                                .attr("aria-label", "A+, larger letters")
                                .testid("font-larger")
                                .click(move || settings.update(|s| s.change_font(1)))
                                .text("A+"),
                        ),
                )
                .child(
                    el("label")
                        .child(
                            el("input")
                                .attr("type", "checkbox")
                                .testid("copy-on-select")
                                .checked(move || settings.with(|s| s.copy_on_select))
                                .on("change", move |event: Event| {
                                    settings.update(|s| s.copy_on_select = event_target_checked(&event))
                                }),
                        )
                        .text("Selecting copies"),
                )
                .child(
                    el("label")
                        .child(
                            el("input")
                                .attr("type", "checkbox")
                                .testid("screen-reader")
                                .checked(move || settings.with(|s| s.screen_reader))
                                .on("change", move |event: Event| {
                                    settings.update(|s| s.screen_reader = event_target_checked(&event))
                                }),
                        )
                        .text("Tell the output to a screen reader"),
                ),
        );
    dialog(open, "Settings", "settings-dialog", content)
}
