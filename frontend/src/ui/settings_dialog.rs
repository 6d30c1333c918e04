//! What a learner can choose for this browser.

use super::parts::{flag, on, text};
use super::dialog::Dialog;
use crate::store::{settings::Theme, use_app};
use leptos::prelude::*;

/// The dialog.
#[component]
pub fn SettingsDialog(open: RwSignal<bool>) -> impl IntoView {
    let settings = use_app().settings;
    let theme = move |value: Theme, name: &'static str, words: &'static str| {
        view! {
            <label>
                <input
                    type="radio"
                    name="theme"
                    data-testid=format!("theme-{name}")
                    prop:checked=flag(move || settings.with(|s| s.theme) == value)
                    on:change=on(move |_| settings.update(|s| s.theme = value))
                />
                {words}
            </label>
        }
    };
    view! {
        <Dialog open title="Settings" testid="settings-dialog">
            <fieldset class="choices">
                <legend>"Theme"</legend>
                {theme(Theme::System, "system", "As the system")}
                {theme(Theme::Light, "light", "Light")}
                {theme(Theme::Dark, "dark", "Dark")}
            </fieldset>
            <fieldset class="choices">
                <legend>"Terminals"</legend>
                <span class="font-size">
                    "Size of letters"
                    <button aria-label="Smaller letters" data-testid="font-smaller" on:click=on(move |_| settings.update(|s| s.change_font(-1)))><span aria-hidden="true">"A−"</span></button>
                    <output>{text(move || settings.with(|s| s.font_size.to_string()))}</output>
                    <button aria-label="Larger letters" data-testid="font-larger" on:click=on(move |_| settings.update(|s| s.change_font(1)))><span aria-hidden="true">"A+"</span></button>
                </span>
                <label>
                    <input
                        type="checkbox"
                        data-testid="copy-on-select"
                        prop:checked=flag(move || settings.with(|s| s.copy_on_select))
                        on:change=on(move |event| settings.update(|s| s.copy_on_select = event_target_checked(&event)))
                    />
                    "Selecting copies"
                </label>
                <label>
                    <input
                        type="checkbox"
                        data-testid="screen-reader"
                        prop:checked=flag(move || settings.with(|s| s.screen_reader))
                        on:change=on(move |event| settings.update(|s| s.screen_reader = event_target_checked(&event)))
                    />
                    "Tell the output to a screen reader"
                </label>
            </fieldset>
        </Dialog>
    }
}
