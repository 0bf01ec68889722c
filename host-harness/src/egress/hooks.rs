//! Where `wasi:http` of a guest meets the gate.
//!
//! What: wasmtime asks these hooks for every outgoing request of one step. With a gate, the request passes it;
//! without one (while a connector describes or configures), every request is refused.
//! Not guaranteed: wasmtime reports an error in the middle of a body to the guest as a failed stream with a text; only
//! errors before the head carry a `wasi:http` error code.

use super::gate::Gate;
use super::headers::forbidden_to_guests;
use super::meter::StepMeter;
use super::policy::Denial;
use super::redact::Redactor;
use super::refusals::Asker;
use http::uri::Scheme;
use std::sync::Arc;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

/// The hooks of one step.
pub struct Hooks {
    /// The gate, or the connector that has none, for log lines.
    gate: Result<Arc<Gate>, Denied>,
    meter: Arc<StepMeter>,
    forbidden: ForbiddenHeaderFilter,
}

/// Who is refused everything.
struct Denied {
    /// The connector.
    connector: String,
    /// Most lines that tell of it.
    most: u32,
}

/// What wasmtime expects of a request's future.
type Sent = wasmtime_wasi_http::Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>)>;

impl Hooks {
    /// Hooks that pass requests through a gate.
    #[must_use]
    pub fn through(gate: Arc<Gate>, meter: Arc<StepMeter>) -> Self {
        let forbidden = forbidden_to_guests(&gate.credential_names());
        Self { gate: Ok(gate), meter, forbidden }
    }

    /// Hooks that refuse every request of a connector, and tell of `most` of them.
    #[must_use]
    pub fn deny_all(connector: &str, meter: Arc<StepMeter>, most: u32) -> Self {
        let denied = Denied { connector: connector.to_owned(), most };
        Self { gate: Err(denied), meter, forbidden: forbidden_to_guests(&[]) }
    }

    /// Counts, and tells of, a request that has no authority or no path and so leads nowhere.
    pub(crate) fn refuse_incomplete(&self) {
        self.refuse(&match &self.gate {
            Ok(_) => Denial::Incomplete,
            Err(_) => Denial::Everything,
        });
    }

    /// Counts a refused request and tells why, unless enough was told.
    fn refuse(&self, denial: &Denial) {
        match &self.gate {
            Ok(gate) => gate.refuse(&self.meter, denial),
            Err(Denied { connector, most }) => {
                // There are no secrets yet.
                let asker = Asker { connector, instance: "", redactor: &Redactor::default(), most: *most };
                asker.refused(&self.meter, denial.code(), denial);
            }
        }
    }

    /// Whether any request can pass at all.
    pub(crate) fn lead_anywhere(&self) -> bool {
        self.gate.is_ok()
    }
}

impl WasiHttpHooks for Hooks {
    // `is_forbidden_header` derives from this; overriding only that one would leave trailers on the default list.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&self.forbidden)
    }

    fn is_supported_scheme(&mut self, scheme: &Scheme) -> bool {
        *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
    }

    // The gate sets it, from the plan and not from what the guest says.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        // What the guest makes of the response's body is no business of the transport.
        _consumed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let meter = Arc::clone(&self.meter);
        let Ok(gate) = &self.gate else {
            self.refuse(&Denial::Everything);
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        let gate = Arc::clone(gate);
        Box::new(async move {
            let response = gate.send(meter, request, options).await?;
            let nothing_left_to_do: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, nothing_left_to_do))
        })
    }

    // A larger write is cut into pieces by the guest's library. A piece of each body waits in this host's memory, and a
    // guest may begin as many bodies as it has handles.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        const MOST: usize = 8 * 1024;
        self.gate.as_ref().map_or(MOST, |gate| gate.limits().request_body_bytes.clamp(1, MOST))
    }
}
