//! Icons.

use leptos::prelude::*;

/// A drawing beside words. It says nothing that the words don't, so screen readers pass over it.
#[component]
pub fn Icon(icon: icondata_core::Icon) -> impl IntoView {
    view! {
        <svg
            class="icon"
            viewBox=icon.view_box
            width="1em"
            height="1em"
            stroke-linecap=icon.stroke_linecap
            stroke-linejoin=icon.stroke_linejoin
            stroke-width=icon.stroke_width
            stroke=icon.stroke
            fill=icon.fill.unwrap_or("currentColor")
            aria-hidden="true"
            focusable="false"
            inner_html=icon.data
        ></svg>
    }
}
