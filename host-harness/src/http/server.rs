//! Connections: who is let in, how much he may send, how long he may take.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::pages::{Answer, Site, error};

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;

/// How long a request's head may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The same when half of the places are taken: whoever opens connections and says nothing must not keep others out.
const HEAD_WITHIN_WHEN_BUSY: Duration = Duration::from_secs(1);

/// How long an answer may take to be made.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long a connection lives, however busy: nobody holds a place for ever by reading slowly.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;

/// Pause after a connection could not be taken, out of file handles for example.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves on a listener until the future is dropped, which ends every connection.
///
/// # Errors
/// Never for what a client does.
pub async fn serve(site: Arc<Site>, listener: TcpListener) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut is_refusing = false;
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        match listener.accept().await {
            Ok((stream, _)) => {
                is_refusing = false;
                let site = Arc::clone(&site);
                let is_busy = places.available_permits() < CONNECTIONS / 2;
                let head_within = if is_busy { HEAD_WITHIN_WHEN_BUSY } else { HEAD_WITHIN };
                connections.spawn(async move {
                    let _place = place;
                    connection(site, stream, head_within).await;
                });
            }
            Err(failure) => {
                // Once: it goes on ten times a second for as long as there are no handles.
                if !is_refusing {
                    tracing::warn!("connections cannot be taken for now: {failure}");
                }
                is_refusing = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection to its end.
async fn connection(site: Arc<Site>, stream: TcpStream, head_within: Duration) {
    let service = service_fn(move |request| respond(Arc::clone(&site), request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // Whoever asks again takes a place again; idle ones would keep others from theirs.
        .keep_alive(false)
        .header_read_timeout(head_within)
        .max_buf_size(HEAD_BYTES)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    // Errors are the client going away or sending nonsense, which hyper has answered.
    let _ = tokio::time::timeout(CONNECTION_LIFE, served).await;
}

async fn respond(site: Arc<Site>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    // The body is dropped unread; one that was announced is refused.
    let (head, _) = request.into_parts();
    let answer = tokio::time::timeout(ANSWER_WITHIN, site.answer(&head)).await;
    Ok(answer.unwrap_or_else(|_| error(StatusCode::SERVICE_UNAVAILABLE, "busy", "this took too long; try again")))
}

#[cfg(test)]
mod tests;
