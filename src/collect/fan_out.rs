//! Many requests at a time, results in order.

use std::cell::RefCell;
use std::future::Future;

use futures::future::LocalBoxFuture;
use futures::stream::{self, StreamExt};

/// Runs jobs, at most `limit` at a time, and gives their results in the order
/// of the jobs. Jobs start in that order too.
///
/// Jobs are boxed so that the machinery is compiled once and not for every kind
/// of job: that is a tenth of the component.
pub async fn fan_out<R>(limit: usize, jobs: impl IntoIterator<Item = impl Future<Output = R>>) -> Vec<R> {
    let jobs: Vec<_> = jobs.into_iter().collect();
    let results: Vec<RefCell<Option<R>>> = jobs.iter().map(|_| RefCell::new(None)).collect();
    let boxed: Vec<LocalBoxFuture<'_, ()>> = jobs
        .into_iter()
        .zip(&results)
        .map(|(job, result)| -> LocalBoxFuture<'_, ()> {
            Box::pin(async move {
                let outcome = job.await;
                *result.borrow_mut() = Some(outcome);
            })
        })
        .collect();
    run(limit, boxed).await;
    results.into_iter().filter_map(RefCell::into_inner).collect()
}

async fn run(limit: usize, jobs: Vec<LocalBoxFuture<'_, ()>>) {
    let mut running = stream::iter(jobs).buffer_unordered(limit.max(1));
    while running.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::Poll;

    use super::*;

    #[test]
    fn results_keep_the_order_of_the_jobs_and_no_more_run_than_may() {
        let running = Cell::new(0_usize);
        let most = Cell::new(0);
        let jobs = (0..20).map(|number| {
            let (running, most) = (&running, &most);
            let mut turns = 20 - number;
            let mut started = false;
            futures::future::poll_fn(move |context| {
                if !started {
                    started = true;
                    running.set(running.get() + 1);
                    most.set(running.get().max(most.get()));
                }
                if turns == 0 {
                    running.set(running.get() - 1);
                    return Poll::Ready(number);
                }
                turns -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            })
        });
        let results = pollster::block_on(fan_out(3, jobs));
        assert_eq!(results, (0..20).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}
