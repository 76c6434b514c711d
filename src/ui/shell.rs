//! The document around the app. Rendered by the server alone.

use leptos::prelude::*;
use leptos_meta::MetaTags;

use super::app::App;
use crate::browser;
use crate::domain::time::Timestamp;

/// How the page is coloured. The server reads it from the cookie `theme` and provides it as a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// The cookie's value, also the `data-theme` of the page; none for the system's theme.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::System => None,
            Self::Light => Some("light"),
            Self::Dark => Some("dark"),
        }
    }

    /// What a cookie's value means; anything unknown is the system's theme.
    pub fn parse(name: Option<&str>) -> Self {
        match name {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }
}

/// The moment that a page's relative times are reckoned from, so that server and browser render the same words.
#[derive(Clone, Copy, Debug)]
pub struct RenderedAt(pub Timestamp);

/// The whole document.
pub fn shell(options: LeptosOptions) -> impl IntoView {
    let theme = use_context::<Theme>().unwrap_or_default();
    let now = crate::domain::time::from_millis(browser::now().timestamp_millis());
    provide_context(RenderedAt(now));
    view! {
        <!DOCTYPE html>
        <html lang="en" data-theme=theme.name() data-now=now.timestamp_millis().to_string()>
            <head>
                <meta charset="utf-8" />
                <meta name="viewport" content="width=device-width, initial-scale=1" />
                <meta name="color-scheme" content="light dark" />
                <meta name="description" content="Runs background jobs and shows, live, what each one is doing." />
                <link rel="stylesheet" href="/pkg/windlass.css" />
                <link rel="icon" href="/favicon.svg" type="image/svg+xml" />
                <HydrationScripts options />
                <MetaTags />
            </head>
            <body>
                <App />
            </body>
        </html>
    }
}
