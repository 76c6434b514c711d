//! The theme switch.

use leptos::prelude::*;

use crate::browser;
use crate::ui::components::Icon;
use crate::ui::shell::Theme;

/// One button that goes from the system's theme to light, to dark and back. The choice is kept in a cookie, so that
/// the server renders the right one from the start.
#[component]
pub fn ThemeSwitch() -> impl IntoView {
    let given = use_context::<Theme>().unwrap_or_else(|| Theme::parse(browser::theme().as_deref()));
    let theme = RwSignal::new(given);
    let turn = move |_| {
        let next = match theme.get_untracked() {
            Theme::System => Theme::Light,
            Theme::Light => Theme::Dark,
            Theme::Dark => Theme::System,
        };
        theme.set(next);
        browser::set_theme(next.name());
    };
    let label = move || match theme.get() {
        Theme::System => "Theme: system",
        Theme::Light => "Theme: light",
        Theme::Dark => "Theme: dark",
    };
    view! {
        <button type="button" class="theme-switch" aria-label=label title=label on:click=turn>
            {move || {
                let icon = match theme.get() {
                    Theme::System => icondata_lu::LuMonitor,
                    Theme::Light => icondata_lu::LuSun,
                    Theme::Dark => icondata_lu::LuMoon,
                };
                view! { <Icon icon /> }
            }}
            <span class="nav-label" aria-hidden="true">{label}</span>
        </button>
    }
}
