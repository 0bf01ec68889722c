//! One request after the other: what is repeated and how often, what ends the step, what is waited for.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use pollster::block_on;
use rapid7_insightidr::api::calls;
use rapid7_insightidr::api::client::{Client, Stop};
use rapid7_insightidr::api::transport::{
    Clock, Request, Response, Transport, TransportError, TransportErrorKind as Kind,
};
use rapid7_insightidr::contract::{Budget, FailureReason, RetryAdvice};
use rapid7_insightidr::region;
use rapid7_insightidr::times::Utc;

const BUDGET: Budget = Budget { requests: 50, artifacts: 1, artifact_bytes: 1, wall_time_milliseconds: 10_000 };

type Answer = Result<(u16, &'static [(&'static str, &'static str)]), Kind>;

const GOOD: Answer = Ok((200, &[]));

/// A vendor that gives these answers one after the other, the last one for ever; each takes so long.
struct Vendor {
    answers: RefCell<Vec<Answer>>,
    asked: Cell<usize>,
    elapsed: Cell<Duration>,
    slept: RefCell<Vec<u128>>,
    takes: Duration,
}

fn vendor(answers: &[Answer]) -> Vendor {
    let answers = RefCell::new(answers.iter().rev().copied().collect());
    let (asked, elapsed, slept) = Default::default();
    Vendor { answers, asked, elapsed, slept, takes: Duration::ZERO }
}

impl Transport for Vendor {
    async fn send(&self, _: &Request, _: Duration) -> Result<Response, TransportError> {
        self.asked.set(self.asked.get() + 1);
        self.elapsed.set(self.elapsed.get() + self.takes);
        let mut answers = self.answers.borrow_mut();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().copied() };
        match answer.unwrap() {
            Ok((status, headers)) => {
                let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                Ok(Response { status, headers, body: Vec::new() })
            }
            Err(kind) => Err(TransportError { kind, message: "it broke".to_owned(), sent: true }),
        }
    }
}

impl Clock for Vendor {
    fn now(&self) -> Utc {
        Utc(0)
    }

    fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    async fn sleep(&self, duration: Duration) {
        self.slept.borrow_mut().push(duration.as_millis());
        self.elapsed.set(self.elapsed.get() + duration);
    }
}

/// What comes of so many requests for a list of investigations.
fn outcomes(vendor: &Vendor, count: usize) -> Vec<Result<u16, Stop>> {
    let client = Client::new(vendor, vendor, region::by_code("us").unwrap(), &BUDGET);
    (0..count)
        .map(|_| block_on(client.send(&calls::any_investigation(Utc(0)))).map(|response| response.status))
        .collect()
}

fn reason(outcome: &Result<u16, Stop>) -> FailureReason {
    match outcome {
        Err(Stop::Failed(failure)) => failure.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_may_pass_is_repeated_twice_with_a_growing_wait_and_then_told() {
    for answer in [Ok((500, &[][..])), Ok((503, &[])), Err(Kind::Connection), Err(Kind::Protocol)] {
        let passes = vendor(&[answer, answer, GOOD]);
        assert_eq!(outcomes(&passes, 1), [Ok(200)], "{answer:?}");
        assert_eq!((passes.asked.get(), passes.slept.borrow().as_slice()), (3, &[250, 500][..]), "{answer:?}");
        let stays = vendor(&[answer]);
        assert!(outcomes(&stays, 1)[0].is_err());
        assert_eq!(stays.asked.get(), 3, "{answer:?}");
    }
}

#[test]
fn what_cannot_pass_is_asked_once_and_what_concerns_every_request_ends_them_all() {
    for (status, asked) in [(401, 1), (429, 1), (400, 3), (403, 3), (404, 3), (408, 3), (204, 3)] {
        let vendor = vendor(&[Ok((status, &[]))]);
        assert!(outcomes(&vendor, 3).iter().all(Result::is_err));
        assert_eq!(vendor.asked.get(), asked, "three requests that {status} answers");
        assert!(vendor.slept.borrow().is_empty(), "{status}");
    }
}

#[test]
fn an_outage_is_noticed_and_a_good_answer_ends_it() {
    let down = vendor(&[Ok((503, &[]))]);
    let all = outcomes(&down, 30);
    assert!(all.iter().all(|outcome| reason(outcome) == FailureReason::Unavailable));
    // The first with all its tries, two more, and then nobody is asked any more.
    assert_eq!(down.asked.get(), 5);
    let slow = vendor(&[Err(Kind::Timeout)]);
    assert!(outcomes(&slow, 30).iter().all(|outcome| reason(outcome) == FailureReason::Timeout));
    assert_eq!(slow.asked.get(), 3);
    let bad = [Err(Kind::Timeout), Err(Kind::Timeout), GOOD];
    let shaky = vendor(&[bad, bad, bad].concat());
    assert_eq!(outcomes(&shaky, 9).iter().filter(|outcome| outcome.is_ok()).count(), 3, "two of three is no outage");
}

#[test]
fn a_vendor_that_says_when_to_come_back_is_not_asked_before() {
    for status in [429, 502, 503] {
        let vendor = vendor(&[Ok((status, &[("retry-after", "30")]))]);
        let all = outcomes(&vendor, 1);
        let Err(Stop::Failed(failure)) = &all[0] else { panic!("{all:?}") };
        assert_eq!((failure.retry, vendor.asked.get()), (RetryAdvice::AfterSeconds(30), 1), "{status}");
    }
}

#[test]
fn an_allowance_is_left_to_others_and_each_api_has_its_own() {
    for (reset, wait) in [(Some("19"), 19), (Some("0"), 1), (None, 60)] {
        let headers: &[(&str, &str)] = match reset {
            Some(reset) => &[("ratelimit-remaining", "2"), ("ratelimit-reset", reset)],
            None => &[("ratelimit-remaining", "2")],
        };
        let headers: &'static [(&'static str, &'static str)] = Box::leak(headers.to_vec().into_boxed_slice());
        let vendor = vendor(&[Ok((200, headers)), GOOD]);
        let client = Client::new(&vendor, &vendor, region::by_code("us").unwrap(), &BUDGET);
        let ask = |request: &Request| block_on(client.send(request)).map(|response| response.status);
        assert_eq!(ask(&calls::triage_alert("rrn:a")), Ok(200));
        assert_eq!(ask(&calls::triage_alert("rrn:a")), Err(Stop::Allowance(wait)), "{reset:?}");
        assert_eq!(ask(&calls::investigation("rrn:a")), Ok(200), "the other API's allowance is another one");
        assert_eq!(vendor.asked.get(), 2);
    }
}

#[test]
fn a_step_takes_on_nothing_more_when_four_fifths_of_its_time_are_gone() {
    let slow = Vendor { takes: Duration::from_secs(3), ..vendor(&[GOOD]) };
    assert_eq!(outcomes(&slow, 5), [Ok(200), Ok(200), Ok(200), Err(Stop::Spent), Err(Stop::Spent)]);
}
