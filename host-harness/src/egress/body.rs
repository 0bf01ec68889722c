//! The body of a response on its way to a guest.
//!
//! What: counts what comes after decompression and ends it at the cap, gives up when nothing comes for too long,
//! overwrites secrets, and holds the request's place among those in flight until the end.
//! Why streamed: the host never holds more than a chunk of a body and a piece, whatever the vendor sends.
//! Why in pieces of one size: a guest sees where they end. Of a compressed body, what the first packets hold depends on how
//! well it could be compressed, and that on whether the guest's own words, which a vendor repeats, are those of a secret
//! beside them. So no piece ends where something arrived, but all at the same places, and the last one at the end.
//! Not guaranteed: when a piece arrives says something of when its bytes did, and when the body has ended, of how many came
//! over the network. Trailers are dropped; no vendor's API that is known needs them.

use super::errors::{Phase, to_wasi};
use super::meter::StepMeter;
use super::scrub::Scrubber;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use wasmtime_wasi_http::Error;

/// Bytes of every piece but the last. Answers that are shorter come whole, as guests read them anyway.
const PIECE: usize = 16 * 1024;

/// A guarded body.
pub(super) struct GuardedBody {
    /// Nothing once the body has ended or failed; dropping it gives the connection back or closes it.
    source: Option<reqwest::Body>,
    /// Held until everything was handed over.
    in_flight: Option<OwnedSemaphorePermit>,
    scrubber: Scrubber,
    /// What may be handed over, and does not fill a piece yet.
    ready: BytesMut,
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
        let (source, in_flight) = (Some(body), Some(in_flight));
        let ready = BytesMut::new();
        Self { source, in_flight, scrubber, ready, meter, received: 0, cap, patience, waiting: None }
    }

    /// Ends the body with an error. What has not filled a piece is not handed over: how much it is would tell.
    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.source = None;
        self.in_flight = None;
        self.ready = BytesMut::new();
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
            if this.ready.len() >= PIECE {
                return Poll::Ready(Some(Ok(Frame::data(this.ready.split_to(PIECE).freeze()))));
            }
            let Some(source) = &mut this.source else {
                this.in_flight = None;
                let rest = std::mem::take(&mut this.ready);
                return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest.freeze()))));
            };
            let frame = match Pin::new(&mut *source).poll_frame(cx) {
                Poll::Pending => return this.wait(cx),
                Poll::Ready(frame) => frame,
            };
            let is_last = source.is_end_stream();
            this.waiting = None;
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().ok(),
                Some(Err(error)) => {
                    let error = to_wasi(&error, Phase::Body);
                    return this.fail(error);
                }
                None => None,
            };
            // Without data it is the end, or trailers, which come last.
            let is_last = is_last || data.is_none();
            if let Some(data) = data {
                let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
                this.received = this.received.saturating_add(size);
                this.meter.add_received(size);
                if this.received > this.cap {
                    let cap = this.cap;
                    return this.fail(Error::HttpResponseBodySize(Some(cap)));
                }
                let passed = this.scrubber.push(data);
                this.ready.extend_from_slice(&passed);
            }
            if is_last {
                // Nothing is left to wait for.
                this.source = None;
                let rest = this.scrubber.finish();
                this.ready.extend_from_slice(&rest);
            }
        }
    }
}
