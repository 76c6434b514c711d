//! What a page shows when it can't show what it is for.

use leptos::prelude::*;
use leptos_meta::Title;

use super::empty::Empty;
use crate::domain::error::{Problem, ProblemCode};
use crate::ui::text;

/// Why, and the next step: another page for those who may not see this one, another try for the others.
#[component]
pub fn Refused(
    problem: Problem,
    /// "The users can't be loaded".
    title: &'static str,
    again: Callback<()>,
) -> impl IntoView {
    if problem.code == ProblemCode::Forbidden {
        return view! {
            <Title text="Not allowed" />
            <Empty
                icon=icondata_lu::LuBan
                title="This page is not for your role"
                text=format!("{} Somebody who manages users can change that.", problem.detail)
            >
                <a class="btn" href="/jobs">"Go to Jobs"</a>
            </Empty>
        }
        .into_any();
    }
    view! {
        <div role="alert">
            <Empty icon=icondata_lu::LuCircleAlert title text=problem.to_string()>
                <button type="button" class="btn primary" on:click=move |_| again.run(())>
                    {text::TRY_AGAIN}
                </button>
            </Empty>
        </div>
    }
    .into_any()
}
