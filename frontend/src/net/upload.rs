//! Sending a file with progress, which `fetch` can't tell. Called by the store.

use super::rest::Problem;
use js_sys::Promise;
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{File, ProgressEvent, XmlHttpRequest};

/// Sends `file` to `url` and calls `progress` with the part that has gone, 0..=1. `started` is handed the request,
/// by which the upload can be given up.
pub async fn put(
    url: &str,
    file: &File,
    started: impl FnOnce(XmlHttpRequest),
    progress: impl Fn(f64) + 'static,
) -> Result<(), Problem> {
    let lost = |_: JsValue| Problem::from_body(0, "");
    let request = XmlHttpRequest::new().map_err(lost)?;
    request.open("PUT", url).map_err(lost)?;
    request.set_request_header("Content-Type", "application/octet-stream").map_err(lost)?;
    let on_progress = Closure::<dyn Fn(ProgressEvent)>::new(move |event: ProgressEvent| {
        if event.length_computable() && event.total() > 0.0 {
            progress(event.loaded() / event.total());
        }
    });
    if let Ok(upload) = request.upload() {
        upload.set_onprogress(Some(on_progress.as_ref().unchecked_ref()));
    }
    let ended = Promise::new(&mut |resolve, _| request.set_onloadend(Some(&resolve)));
    request.send_with_opt_blob(Some(file)).map_err(lost)?;
    started(request.clone());
    let _ = JsFuture::from(ended).await;
    request.set_onloadend(None);
    match request.status().unwrap_or(0) {
        200..=299 => Ok(()),
        0 => Err(Problem {
            status: 0,
            code: "interrupted".into(),
            message: format!("The upload of {} was interrupted. Upload it again.", file.name()),
            session: None,
        }),
        status => {
            Err(Problem::from_body(status, &request.response_text().ok().flatten().unwrap_or_default()))
        }
    }
}
