//! A job's log: what it said and says, as it says it.

mod ansi;
mod book;
mod feed;
mod line;
mod toolbar;
mod view;

use leptos::prelude::*;

use crate::domain::job::Job;
use book::LogBook;
use feed::Feed;
use toolbar::Toolbar;
use view::LogView;

/// The log of `job`; the same job for as long as the component lives.
#[component]
pub fn JobLogs(job: Signal<Job>) -> impl IntoView {
    let book = RwSignal::new(LogBook::default());
    let feed = Feed::new(job, book);
    let follow = RwSignal::new(true);
    view! {
        <section class="logs" aria-label="Job logs">
            <Toolbar job=job book=book feed=feed follow=follow />
            <LogView job=job book=book feed=feed follow=follow />
        </section>
    }
}
