//! What a learner chose for this browser; kept in localStorage under `drydock.settings`.

use super::known::Known;
use crate::reactive::*;
use crate::{
    browser,
    logic::{
        read::{Read, field, names},
        units::within,
    },
    store::watch::watch,
};
use serde::Serialize;
use serde_json::Value;

const KEY: &str = "drydock.settings";
/// Letters' height if nobody chose another, in CSS pixels.
const FONT: u16 = 14;

/// Light or dark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the system has it.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// The choices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Light or dark.
    pub theme: Theme,
    /// Height of the terminals' letters in CSS pixels, 8 to 32.
    pub font_size: u16,
    /// Selecting text in a terminal copies it.
    pub copy_on_select: bool,
    /// Terminals are told to a screen reader.
    pub screen_reader: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { theme: Theme::System, font_size: FONT, copy_on_select: true, screen_reader: false }
    }
}

names! { Theme { "system" => System, "light" => Light, "dark" => Dark } }

impl Read for Settings {
    fn read(value: &Value) -> Option<Self> {
        // What an older page stored lacks what came later.
        let usual = Self::default();
        Some(Self {
            theme: field(value, "theme").unwrap_or(usual.theme),
            font_size: field(value, "font_size").unwrap_or(usual.font_size),
            copy_on_select: field(value, "copy_on_select").unwrap_or(usual.copy_on_select),
            screen_reader: field(value, "screen_reader").unwrap_or(usual.screen_reader),
        })
    }
}

impl Settings {
    /// Letters larger (1), smaller (-1) or as they were (0).
    pub fn change_font(&mut self, step: i8) {
        self.font_size = match step {
            0 => FONT,
            _ => self.font_size.saturating_add_signed(i16::from(step)).clamp(8, 32),
        };
    }
}

/// How the page looks: what was chosen, and what the system prefers.
#[derive(Clone, Copy)]
pub struct Looks {
    /// What was chosen.
    pub settings: Known<Settings>,
    system_dark: Known<bool>,
    /// The system gives the colours.
    forced: Known<bool>,
}

impl Looks {
    /// True if the page is dark now.
    pub fn dark(self) -> bool {
        match self.settings.with(|s| s.theme) {
            _ if self.forced.get() => self.system_dark.get(),
            Theme::System => self.system_dark.get(),
            Theme::Light => false,
            Theme::Dark => true,
        }
    }
}

/// The choices, which store themselves.
pub fn follow() -> Looks {
    let mut loaded: Settings = browser::load(KEY).unwrap_or_default();
    loaded.font_size = loaded.font_size.clamp(8, 32);
    let settings = Known::new(loaded);
    let mut saved = settings.get_untracked();
    watch(move || {
        let now = settings.get();
        if saved != now {
            browser::save(KEY, &now);
            saved = now.clone();
        }
        if let Some(root) = document().document_element() {
            let _ = match now.theme {
                Theme::System => root.remove_attribute("data-theme"),
                Theme::Light => root.set_attribute("data-theme", "light"),
                Theme::Dark => root.set_attribute("data-theme", "dark"),
            };
        }
    });
    let system_dark = browser::media("(prefers-color-scheme: dark)");
    Looks { settings, system_dark, forced: browser::media("(forced-colors: active)") }
}

const PANELS_KEY: &str = "drydock.panels";

/// Widths of the panels at the sides, in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Panels {
    /// The nodes.
    pub nodes: f64,
    /// The files.
    pub files: f64,
}

impl Default for Panels {
    fn default() -> Self {
        Self { nodes: 240.0, files: 380.0 }
    }
}

impl Read for Panels {
    fn read(value: &Value) -> Option<Self> {
        Some(Self { nodes: field(value, "nodes")?, files: field(value, "files")? })
    }
}

impl Panels {
    /// Least and greatest width of a panel.
    pub const RANGE: (f64, f64) = (180.0, 720.0);

    fn mended(self) -> Self {
        let mend = |width: f64, usual: f64| {
            if width.is_finite() { within(width, Self::RANGE.0, Self::RANGE.1) } else { usual }
        };
        let usual = Self::default();
        Self { nodes: mend(self.nodes, usual.nodes), files: mend(self.files, usual.files) }
    }
}

/// The widths as a signal that stores itself.
pub fn follow_panels() -> Known<Panels> {
    let panels = Known::new(browser::load::<Panels>(PANELS_KEY).unwrap_or_default().mended());
    let mut saved = panels.get_untracked();
    watch(move || {
        let now = panels.get();
        if saved != now {
            browser::save(PANELS_KEY, &now);
            saved = now;
        }
    });
    panels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stay_readable() {
        let mut s = Settings { font_size: 31, ..Settings::default() };
        s.change_font(1);
        s.change_font(1);
        assert_eq!(s.font_size, 32);
        s.change_font(0);
        assert_eq!(s.font_size, FONT);
    }

    #[test]
    fn settings_of_an_older_page_are_completed() {
        let s: Settings = crate::logic::read::from_text(r#"{"theme":"dark","gone":1}"#).unwrap();
        assert_eq!((s.theme, s.font_size), (Theme::Dark, FONT));
    }
}
