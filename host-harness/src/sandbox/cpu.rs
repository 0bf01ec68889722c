//! How long a guest has been on the CPU.
//!
//! What: a wrapper around the future of a step adds up the time that polling it takes. While the guest waits for a
//! response nobody polls, so waiting does not count.
//! Why not epochs alone: epochs tick in wall-clock time, so a deadline in epochs would kill a guest for a slow vendor.
//! Not guaranteed: it is time by the monotonic clock, so time for which the operating system gave the CPU to somebody
//! else counts, and so does the work of the host within a call.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Adds up time on the CPU. Shared by the wrapper and whoever asks.
#[derive(Debug)]
pub(super) struct CpuMeter {
    origin: Instant,
    /// Nanoseconds of polls that have ended.
    spent: AtomicU64,
    /// When the poll that runs now began, in nanoseconds after `origin` plus one; 0 when none runs.
    began: AtomicU64,
}

impl CpuMeter {
    /// A meter at zero.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { origin: Instant::now(), spent: AtomicU64::new(0), began: AtomicU64::new(0) })
    }

    /// Time so far, with the poll that runs now.
    pub(super) fn spent(&self) -> Duration {
        let running = match self.began.load(Ordering::Relaxed) {
            0 => 0,
            began => self.nanos().saturating_sub(began - 1),
        };
        Duration::from_nanos(self.spent.load(Ordering::Relaxed).saturating_add(running))
    }

    /// Nanoseconds after `origin`.
    fn nanos(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
    }

    /// A poll begins.
    fn begin(&self) {
        self.began.store(self.nanos() + 1, Ordering::Relaxed);
    }

    /// It has ended.
    fn end(&self) {
        let began = self.began.swap(0, Ordering::Relaxed);
        if began > 0 {
            self.spent.fetch_add(self.nanos().saturating_sub(began - 1), Ordering::Relaxed);
        }
    }
}

/// A future whose polling is metered.
pub(super) struct Metered<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    meter: Arc<CpuMeter>,
}

impl<'a, T> Metered<'a, T> {
    /// Meters a future.
    pub(super) fn new(future: impl Future<Output = T> + Send + 'a, meter: Arc<CpuMeter>) -> Self {
        Self { future: Box::pin(future), meter }
    }
}

impl<T> Future for Metered<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        this.meter.begin();
        let result = this.future.as_mut().poll(cx);
        this.meter.end();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_not_time_on_the_cpu() {
        // The meter knows no other time than that of this machine.
        let wait = Duration::from_millis(400);
        let began = Instant::now();
        let meter = CpuMeter::new();
        let inside = Arc::clone(&meter);
        Metered::new(
            async move {
                tokio::time::sleep(wait).await;
                let before = inside.spent();
                // Spins until the meter shows progress: it counts while a poll runs.
                while inside.spent() < before + Duration::from_millis(2) {}
            },
            Arc::clone(&meter),
        )
        .await;
        assert!(meter.spent() >= Duration::from_millis(2));
        assert!(meter.spent() + wait / 2 < began.elapsed(), "{:?} of {:?}", meter.spent(), began.elapsed());
    }
}
