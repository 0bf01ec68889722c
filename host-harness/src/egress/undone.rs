//! Undoing the compression of a response.
//!
//! What: sends a request and undoes gzip, one layer, where the response says so in one line.
//! Why here and not in the client: a client undoes the first of several codings and removes the header with all of them. What
//! is left, compressed as before, would pass the search for secrets as if it were text.
//! Not guaranteed: a body that is compressed and does not say so is passed on as it is.

use http::header::CONTENT_ENCODING;
use http::{HeaderValue, Request, Response};
use tower::ServiceExt as _;
use tower_http::decompression::Decompression;

/// Stands for codings that nobody here undoes; the gate refuses it.
const SEVERAL: HeaderValue = HeaderValue::from_static("several");

/// Sends a request. A coding that was undone is no longer in the response's head.
///
/// # Errors
/// Whatever the client reports.
pub(super) async fn execute(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> Result<Response<reqwest::Body>, reqwest::Error> {
    let send = tower::service_fn(|request: Request<reqwest::Request>| {
        let client = client.clone();
        async move {
            let mut response = Response::<reqwest::Body>::from(client.execute(request.into_body()).await?);
            if response.headers().get_all(CONTENT_ENCODING).iter().count() > 1 {
                response.headers_mut().insert(CONTENT_ENCODING, SEVERAL);
            }
            Ok::<_, reqwest::Error>(response)
        }
    });
    // The request travels as the body of another one, of which only that is looked at.
    let response = Decompression::new(send).oneshot(Request::new(request)).await?;
    Ok(response.map(reqwest::Body::wrap))
}
