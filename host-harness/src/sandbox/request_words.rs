//! The texts that a guest writes into a request: method, scheme, authority, path with query.
//!
//! What: puts a check of their lengths before the library's functions that take them. What is too long is answered
//! like what cannot be a method, a scheme and so on at all: the function fails and the request stays as it was. And a
//! request that lacks its authority or its path is refused, and counted, like any other that leads nowhere planned.
//! Why: the library keeps them in this host's memory for as long as the guest keeps the request, and checks their
//! characters only. Neither the limit on one call nor the one on handles bounds what many calls leave behind.
//! Why requests that lack something: the library writes a line to the log for each, before anybody here is asked.
//! Not guaranteed: that what is short enough may leave; that is for the gate to say.

use super::guest::Guest;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, FutureIncomingResponse, HostOutgoingRequest, Method, OutgoingRequest, RequestOptions, Scheme,
};

/// The interface as the library links it.
const TYPES: &str = "wasi:http/types@0.2.12";

/// The interface that sends.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// Most bytes of a method or a scheme. The longest that is registered has 17.
const WORD: usize = 64;

/// Most bytes of an authority: a host name has 253 at most, a port with its colon six.
const AUTHORITY: usize = 300;

/// What all of these functions answer.
type Answer = wasmtime::Result<(Result<(), ()>,)>;

/// Puts the checks into a linker that has the interface already.
pub(super) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, Guest>, (request, method): (Resource<OutgoingRequest>, Method)| -> Answer {
            if matches!(&method, Method::Other(name) if name.len() > WORD) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_method(&mut store.data_mut().http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: StoreContextMut<'_, Guest>,
         (request, scheme): (Resource<OutgoingRequest>, Option<Scheme>)|
         -> Answer {
            if matches!(&scheme, Some(Scheme::Other(name)) if name.len() > WORD) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_scheme(&mut store.data_mut().http(), request, scheme)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, Guest>,
         (request, authority): (Resource<OutgoingRequest>, Option<String>)|
         -> Answer {
            if authority.as_ref().is_some_and(|authority| authority.len() > AUTHORITY) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_authority(&mut store.data_mut().http(), request, authority)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, Guest>,
         (request, target): (Resource<OutgoingRequest>, Option<String>)|
         -> Answer {
            if target.as_ref().is_some_and(|target| target.len() > store.data().target_bytes) {
                return Ok((Err(()),));
            }
            Ok((HostOutgoingRequest::set_path_with_query(&mut store.data_mut().http(), request, target)?,))
        },
    )?;
    linker.instance(HANDLER)?.func_wrap(
        "handle",
        |store: StoreContextMut<'_, Guest>,
         (request, options): (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>)|
         -> wasmtime::Result<(Sent,)> { Ok((handle(store, request, options)?,)) },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What sending answers at once.
type Sent = Result<Resource<FutureIncomingResponse>, ErrorCode>;

/// Sends a request, unless it lacks something.
fn handle(
    mut store: StoreContextMut<'_, Guest>,
    request: Resource<OutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Sent> {
    let guest = store.data_mut();
    // The library copies the options and forgets them; they would take up a handle until the end of the step.
    let given = options.as_ref().map(Resource::rep);
    let asked = guest.http().table.get(&request)?;
    let sent = if asked.authority.is_none() || asked.path_with_query.is_none() {
        guest.http().table.delete(request)?;
        guest.hooks().refuse_incomplete();
        Err(ErrorCode::HttpRequestUriInvalid)
    } else {
        match outgoing_handler::Host::handle(&mut guest.http(), request, options) {
            Ok(response) => Ok(response),
            Err(error) => Err(error.downcast()?),
        }
    };
    if let Some(rep) = given {
        guest.http().table.delete(Resource::<RequestOptions>::new_own(rep))?;
    }
    Ok(sent)
}
