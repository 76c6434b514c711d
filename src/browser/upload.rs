//! Uploads that say how far they are.

use std::cell::RefCell;

use send_wrapper::SendWrapper;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{Event, FormData, HtmlInputElement, ProgressEvent, XmlHttpRequest};

/// A running upload; dropping it stops it and silences its callbacks.
pub struct Upload {
    _inner: SendWrapper<Inner>,
}

struct Inner {
    request: XmlHttpRequest,
    _progress: Closure<dyn Fn(ProgressEvent)>,
    _end: Closure<dyn Fn(Event)>,
}

/// Name and size in bytes of the file that is chosen in `input`.
pub fn chosen(input: &HtmlInputElement) -> Option<(String, u64)> {
    let file = input.files()?.get(0)?;
    Some((file.name(), file.size() as u64))
}

/// Posts `fields` and then the file chosen in `input` (as `file`) to `url` as `multipart/form-data`. `on_progress` gets
/// the part sent so far, 0 to 1; `on_done` the body of the answer, or its status (0: none came) and body when it is not
/// a good one.
pub fn upload(
    url: &str,
    fields: &[(&str, &str)],
    input: &HtmlInputElement,
    on_progress: impl Fn(f64) + 'static,
    on_done: impl FnOnce(Result<String, (u16, String)>) + 'static,
) -> Option<Upload> {
    let form = FormData::new().ok()?;
    for (name, value) in fields {
        form.append_with_str(name, value).ok()?;
    }
    let file = input.files()?.get(0)?;
    form.append_with_blob_and_filename("file", &file, &file.name()).ok()?;
    let request = XmlHttpRequest::new().ok()?;
    request.open("POST", url).ok()?;
    request.set_request_header("Accept", "application/json").ok()?;
    let progress = Closure::<dyn Fn(ProgressEvent)>::new(move |event: ProgressEvent| {
        if event.length_computable() && event.total() > 0.0 {
            on_progress(event.loaded() / event.total());
        }
    });
    let answered = request.clone();
    let on_done = RefCell::new(Some(on_done));
    let end = Closure::<dyn Fn(Event)>::new(move |_| {
        let Some(done) = on_done.borrow_mut().take() else {
            return;
        };
        let status = answered.status().unwrap_or(0);
        let body = answered.response_text().ok().flatten().unwrap_or_default();
        done(if (200..300).contains(&status) {
            Ok(body)
        } else {
            Err((status, body))
        });
    });
    request
        .upload()
        .ok()?
        .set_onprogress(Some(progress.as_ref().unchecked_ref()));
    request.set_onloadend(Some(end.as_ref().unchecked_ref()));
    request.send_with_opt_form_data(Some(&form)).ok()?;
    let _inner = SendWrapper::new(Inner {
        request,
        _progress: progress,
        _end: end,
    });
    Some(Upload { _inner })
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.request.set_onloadend(None);
        if let Ok(upload) = self.request.upload() {
            upload.set_onprogress(None);
        }
        // Without effect when it has ended.
        let _ = self.request.abort();
    }
}
