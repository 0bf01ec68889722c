//! The body of a response on its way to a guest.
//!
//! What: counts what comes after decompression and ends it at the cap, gives up when nothing comes for too long,
//! overwrites secrets, and holds the request's place among those in flight until the end.
//! Why streamed: the host never holds more than a chunk of a body, whatever the vendor sends.
//! Not guaranteed: trailers are dropped; no vendor's API that is known needs them.

use super::errors::{Phase, to_wasi};
use super::meter::StepMeter;
use super::scrub::Scrubber;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use wasmtime_wasi_http::Error;

/// A guarded body.
pub(super) struct GuardedBody {
    /// Nothing once the body has ended or failed; dropping it gives the connection back or closes it.
    source: Option<Source>,
    scrubber: Scrubber,
    meter: Arc<StepMeter>,
    /// Bytes so far.
    received: u64,
    /// Most bytes.
    cap: u64,
    /// Longest wait between two chunks.
    patience: Duration,
    /// Runs while a chunk is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// What is let go at the end.
struct Source {
    body: reqwest::Body,
    _in_flight: OwnedSemaphorePermit,
}

impl GuardedBody {
    /// Guards a body. `cap` in bytes; `patience` between two chunks.
    pub(super) fn new(
        body: reqwest::Body,
        in_flight: OwnedSemaphorePermit,
        scrubber: Scrubber,
        meter: Arc<StepMeter>,
        cap: u64,
        patience: Duration,
    ) -> Self {
        let source = Some(Source { body, _in_flight: in_flight });
        Self { source, scrubber, meter, received: 0, cap, patience, waiting: None }
    }

    /// Ends the body with an error.
    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.source = None;
        Poll::Ready(Some(Err(error)))
    }

    /// Waits for the next chunk no longer than patience lasts.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => self.fail(Error::ConnectionReadTimeout),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        loop {
            let Some(source) = &mut this.source else {
                return Poll::Ready(None);
            };
            let frame = match Pin::new(&mut source.body).poll_frame(cx) {
                Poll::Pending => return this.wait(cx),
                Poll::Ready(frame) => frame,
            };
            let is_last = source.body.is_end_stream();
            this.waiting = None;
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().ok(),
                Some(Err(error)) => {
                    let error = to_wasi(&error, Phase::Body);
                    return this.fail(error);
                }
                None => None,
            };
            let Some(data) = data else {
                // The end, or trailers, which come last.
                this.source = None;
                let rest = this.scrubber.finish();
                return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
            };
            let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
            this.received = this.received.saturating_add(size);
            this.meter.add_received(size);
            if this.received > this.cap {
                let cap = this.cap;
                return this.fail(Error::HttpResponseBodySize(Some(cap)));
            }
            let mut passed = this.scrubber.push(data);
            if is_last {
                // Nothing is left to wait for, so what was held back need not be a piece of its own.
                let rest = this.scrubber.finish();
                if !rest.is_empty() {
                    passed = [passed, rest].concat().into();
                }
            }
            // An empty chunk would be taken for progress by nobody; go on.
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }
}
