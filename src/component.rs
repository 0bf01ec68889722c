//! The component: the exports of the world over `wasi:http` and WASI's clocks.
//!
//! Nothing is decided here. Each call parses the settings, runs the library's
//! code to its end and hands the result over.

use std::time::Duration;

use wstd::runtime::block_on;

use crate::api::transport::Clock;
use crate::collect;
use crate::contract::exports::witfoo::signal_connector::connector::Guest;
use crate::contract::{
    Batch, Budget, CheckReport, Descriptor, Failure, FailureReason, FieldError, Plan, RetryAdvice, Setting,
};
use crate::settings::Settings;
use crate::times::Utc;
use crate::wasi_http::WasiHttp;

struct Component;

/// The generated glue between the canonical ABI and [`Component`].
#[allow(unsafe_code, unreachable_pub, reason = "generated code; the only unsafe code of the connector")]
mod glue {
    crate::contract::export!(Component with_types_in crate::contract);

    use super::Component;
}

impl Guest for Component {
    fn describe() -> Descriptor {
        crate::descriptor::describe()
    }

    fn configure(settings: Vec<Setting>) -> Result<Plan, Vec<FieldError>> {
        Ok(crate::settings::plan(&Settings::parse(&settings)?))
    }

    fn check(settings: Vec<Setting>) -> Result<CheckReport, Failure> {
        let settings = Settings::parse(&settings).map_err(invalid)?;
        let transport = WasiHttp::new(settings.region.host);
        block_on(collect::check::check(&transport, &WasiClock, &settings))
    }

    fn poll(settings: Vec<Setting>, checkpoint: Option<Vec<u8>>, budget: Budget) -> Result<Batch, Failure> {
        let settings = Settings::parse(&settings).map_err(invalid)?;
        let transport = WasiHttp::new(settings.region.host);
        block_on(collect::step(&transport, &WasiClock, &settings, checkpoint, budget))
    }
}

/// Settings that `configure` would have refused.
fn invalid(errors: Vec<FieldError>) -> Failure {
    let listed: Vec<String> = errors.into_iter().map(|error| format!("{} {}", error.key, error.message)).collect();
    crate::api::errors::plain(
        FailureReason::InvalidSettings,
        format!("the settings are not valid: {}", listed.join("; ")),
        "Correct the settings of the instance.",
        RetryAdvice::AfterChange,
    )
}

/// WASI's clocks.
struct WasiClock;

impl Clock for WasiClock {
    fn now(&self) -> Utc {
        let now = wasi::clocks::wall_clock::now();
        Utc::from_unix(now.seconds, now.nanoseconds)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(wasi::clocks::monotonic_clock::now())
    }

    async fn sleep(&self, duration: Duration) {
        wstd::time::Timer::after(duration.into()).wait().await;
    }
}
